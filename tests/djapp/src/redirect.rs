//! `djapp redirect`: what App Mesh's proxy route manager does, by the same variables.

use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Redirects by one call of `iptables-restore`: all rules, or none.
pub(crate) fn run() -> Result<()> {
    let rules = rules(|name| env::var(name).ok())?;
    let mut restore = Command::new("iptables-restore")
        .args(["--noflush"])
        .stdin(Stdio::piped())
        .spawn()
        .context("start iptables-restore")?;
    let stdin = restore.stdin.take().context("no stdin")?;
    { stdin }.write_all(rules.as_bytes())?;
    let status = restore.wait()?;
    ensure!(status.success(), "iptables-restore: {status}, of\n{rules}");
    println!("{rules}");
    Ok(())
}

fn rules(variable: impl Fn(&str) -> Option<String>) -> Result<String> {
    let need = |name: &str| variable(name).with_context(|| format!("{name} is not set"));
    let mut rules = "*nat\n:APPMESH_INGRESS - [0:0]\n:APPMESH_EGRESS - [0:0]\n".to_owned();
    let _ = writeln!(
        rules,
        "-A APPMESH_INGRESS -p tcp -m multiport --dports {} -j REDIRECT --to-ports {}\n\
         -A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j APPMESH_INGRESS\n\
         -A APPMESH_EGRESS -m owner --uid-owner {} -j RETURN",
        need("APPMESH_APP_PORTS")?,
        need("APPMESH_ENVOY_INGRESS_PORT")?,
        need("APPMESH_IGNORE_UID")?,
    );
    if let Some(ports) = variable("APPMESH_EGRESS_IGNORED_PORTS") {
        let _ = writeln!(
            rules,
            "-A APPMESH_EGRESS -p tcp -m multiport --dports {ports} -j RETURN"
        );
    }
    let addresses = variable("APPMESH_EGRESS_IGNORED_IP").unwrap_or_default();
    for address in addresses.split(',').map(str::trim) {
        if !address.is_empty() {
            let _ = writeln!(rules, "-A APPMESH_EGRESS -d {address} -j RETURN");
        }
    }
    let _ = writeln!(
        rules,
        "-A APPMESH_EGRESS -p tcp -j REDIRECT --to-ports {}\n\
         -A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j APPMESH_EGRESS\nCOMMIT",
        need("APPMESH_ENVOY_EGRESS_PORT")?,
    );
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_follow_the_variables() {
        let set = |name: &str| {
            let value = match name {
                "APPMESH_APP_PORTS" => "9080",
                "APPMESH_ENVOY_INGRESS_PORT" => "15000",
                "APPMESH_ENVOY_EGRESS_PORT" => "15001",
                "APPMESH_IGNORE_UID" => "1337",
                "APPMESH_EGRESS_IGNORED_PORTS" => "22",
                "APPMESH_EGRESS_IGNORED_IP" => "169.254.169.254, 10.0.0.0/8",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let wanted = "*nat
:APPMESH_INGRESS - [0:0]
:APPMESH_EGRESS - [0:0]
-A APPMESH_INGRESS -p tcp -m multiport --dports 9080 -j REDIRECT --to-ports 15000
-A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j APPMESH_INGRESS
-A APPMESH_EGRESS -m owner --uid-owner 1337 -j RETURN
-A APPMESH_EGRESS -p tcp -m multiport --dports 22 -j RETURN
-A APPMESH_EGRESS -d 169.254.169.254 -j RETURN
-A APPMESH_EGRESS -d 10.0.0.0/8 -j RETURN
-A APPMESH_EGRESS -p tcp -j REDIRECT --to-ports 15001
-A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j APPMESH_EGRESS
COMMIT
";
        assert_eq!(rules(set).unwrap(), wanted);
        let error = rules(|_| None).unwrap_err().to_string();
        assert_eq!(error, "APPMESH_APP_PORTS is not set");
    }
}
