//! What a program must be to run with nothing beneath it.

use anyhow::{Context as _, Result, ensure};
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Fails unless it is a program of that architecture that asks for no interpreter, and so for no
/// shared library.
pub fn check(name: &str, bytes: &[u8], architecture: &str) -> Result<()> {
    let machine = match architecture {
        "amd64" => EM_X86_64,
        _ => EM_AARCH64,
    };
    let read = || -> object::Result<_> {
        let header = FileHeader64::<object::Endianness>::parse(bytes)?;
        let endian = header.endian()?;
        let segments = header.program_headers(endian, bytes)?;
        let mut kinds = segments.iter().map(|segment| segment.p_type(endian));
        Ok((
            header.e_machine(endian),
            kinds.any(|kind| kind == PT_INTERP),
        ))
    };
    let (found, is_dynamic) = read().with_context(|| format!("read {name}"))?;
    ensure!(found == machine, "{name} is not for {architecture}");
    ensure!(!is_dynamic, "{name} is not linked statically");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    /// As much of a program as the check reads: its header, and one segment of `kind`.
    fn program(machine: u16, kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        // Where segments are, the size of one, and how many.
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    /// Static programs of the right architecture pass; what needs a loader, is of the other one or
    /// is no program does not.
    #[test]
    fn only_static_programs_of_the_architecture_pass() {
        const AMD64: u16 = 62;
        const ARM64: u16 = 183;
        const LOAD: u32 = 1;
        const INTERPRETER: u32 = 3;
        check("it", &program(AMD64, LOAD), "amd64").unwrap();
        check("it", &program(ARM64, LOAD), "arm64").unwrap();
        for (bytes, architecture, wanted) in [
            (program(AMD64, LOAD), "arm64", "it is not for arm64"),
            (program(ARM64, LOAD), "amd64", "it is not for amd64"),
            (
                program(AMD64, INTERPRETER),
                "amd64",
                "it is not linked statically",
            ),
            (b"#!/bin/sh".to_vec(), "amd64", "read it"),
        ] {
            let error = check("it", &bytes, architecture).unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
    }

    /// A real program that asks for shared libraries: this one.
    #[test]
    fn this_test_is_not_static() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let architecture = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        let error = check("this test", &bytes, architecture).unwrap_err();
        assert!(error.to_string().contains("statically"), "{error}");
    }
}
