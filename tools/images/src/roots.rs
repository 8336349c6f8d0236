//! The certificates of public authorities: Mozilla's, as a crate of the lockfile has them, so that
//! an image does not depend on the machine that built it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Characters of Base64 in a line (RFC 7468, 2).
const LINE: usize = 64;

/// All of them as PEM, in one file as Debian's `ca-certificates.crt`.
#[must_use]
pub fn pem() -> String {
    TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|certificate| block(certificate))
        .collect()
}

fn block(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut block = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (position, character) in text.chars().enumerate() {
        if position > 0 && position % LINE == 0 {
            block.push('\n');
        }
        block.push(character);
    }
    block + "\n-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

    use super::pem;

    /// What reads certificates in our programs reads all of them back.
    #[test]
    fn the_file_reads_back() {
        let text = pem();
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let read = read.unwrap();
        assert!(read.len() > 100, "{}", read.len());
        assert_eq!(read, TLS_SERVER_ROOT_CERTS);
        assert!(text.lines().all(|line| line.len() <= 64));
    }
}
