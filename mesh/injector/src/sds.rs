//! The socket of an SDS server, as the agent of SPIRE has one on each host: mounted as by App
//! Mesh's controller.

use serde_json::{Value, json};

use crate::names::{list, object, sidecar};
use crate::settings::Stock;
use crate::sidecar_env::SidecarEnv;
use crate::skipped::Skipped;

/// `disabled`: the pod gets no socket.
const SDS: &str = "appmesh.k8s.aws/sds";
const VOLUME: &str = "appmesh-sds-socket-volume";

/// Path of the socket in the sidecar, for its bootstrap.
pub(crate) fn socket(pod: &mut Value, stock: &Stock) -> Result<Option<String>, Skipped> {
    let annotations = object(&mut pod["metadata"]["annotations"])?;
    let own = SidecarEnv::of(annotations)?.sds_socket;
    let own = own.filter(|path| !path.is_empty());
    let is_off = annotations.get(SDS).is_some_and(|word| word == "disabled");
    let of_hosts = stock.sds_socket.clone().filter(|_| !is_off);
    Ok(own.or(of_hosts))
}

/// Mounts the socket of the host into the sidecar, by the pod's own volume if it has one for it.
/// Another socket is mounted by the pod's annotations.
pub(crate) fn mount(pod: &mut Value, stock: &Stock) -> Result<(), Skipped> {
    let of_hosts = |path: &String| stock.sds_socket.as_ref() == Some(path);
    let Some(path) = socket(pod, stock)?.filter(of_hosts) else {
        return Ok(());
    };
    let volume = volume(list(&mut pod["spec"]["volumes"])?, &path)?;
    let Some(sidecar) = sidecar(pod) else {
        return Ok(());
    };
    let mounts = list(&mut sidecar["volumeMounts"])?;
    if mounts
        .iter()
        .all(|mount| mount["mountPath"] != path.as_str())
    {
        mounts.push(json!({"name": volume, "mountPath": path, "readOnly": true}));
    }
    Ok(())
}

/// Name of the volume with the socket of the host, which is added if there is none.
fn volume(volumes: &mut Vec<Value>, path: &str) -> Result<String, Skipped> {
    let is_there = |volume: &&Value| volume["hostPath"]["path"] == path;
    if let Some(name) = volumes
        .iter()
        .find(is_there)
        .and_then(|of| of["name"].as_str())
    {
        return Ok(name.to_owned());
    }
    if volumes.iter().any(|volume| volume["name"] == VOLUME) {
        let (what, name) = ("volume", VOLUME.to_owned());
        return Err(Skipped::Taken { what, name });
    }
    volumes.push(json!({"name": VOLUME, "hostPath": {"path": path, "type": "Socket"}}));
    Ok(VOLUME.to_owned())
}
