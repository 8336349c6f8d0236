# Read by the scripts beside it: makes sure that cargo is there.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi
if ! command -v cargo >/dev/null 2>&1; then
  echo "$0: cargo is not on PATH. Install Rust by rustup (https://rustup.rs); rust-toolchain.toml names the version." >&2
  exit 1
fi
