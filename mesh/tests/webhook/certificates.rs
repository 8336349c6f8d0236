//! Certificates from files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tests_support::clock::wait_for;

use crate::program::{PATIENCE, Program, admitted, review_of};

/// Another certificate is shown once it is in the files, and no review fails meanwhile, on
/// connections old and new.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_under_load() {
    let (program, files) = Program::with_files().await;
    program.wait_ready().await;
    let client = program.client(&files.ca.pem);
    let done = Arc::new(AtomicBool::new(false));
    let load = {
        let (client, done) = (client.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut open = client.http2().await.unwrap();
            let (review, mut answered) = (review_of(None), 0);
            while !done.load(Ordering::Relaxed) {
                admitted(&review, &open.review(&review).await.unwrap());
                admitted(&review, &client.review(&review).await.unwrap());
                answered += 2;
            }
            answered
        })
    };
    let first = client.shown().await.unwrap();
    let expiry = "certificate_expiry_timestamp_seconds";
    assert!(program.metric(expiry).await > 1e9);
    let renewed = files.renew();
    let renewed = CertificateDer::from_pem_slice(renewed.as_bytes()).unwrap();
    assert_ne!(first, renewed.as_ref());
    wait_for("the other certificate", PATIENCE, async || {
        Ok((client.shown().await? == renewed.as_ref()).then_some(()))
    })
    .await
    .unwrap();
    done.store(true, Ordering::Relaxed);
    let answered = load.await.unwrap();
    assert!(answered > 10, "{answered}");
    let injected = "reviews_total{result=\"injected\",reason=\"\"}";
    program.wait_metric(injected, f64::from(answered)).await;
}
