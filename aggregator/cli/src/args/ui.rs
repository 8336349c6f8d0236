//! Flags of `ui`.

use clap::Args;

use super::ConnectionArgs;

/// Flags of `ui`.
#[derive(Args, Clone, Debug)]
pub struct UiArgs {
    /// Port on 127.0.0.1; 0 for one that is free.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,

    /// Do not open a browser, only print the link.
    #[arg(long)]
    pub no_open: bool,

    #[command(flatten)]
    pub connection: ConnectionArgs,
}
