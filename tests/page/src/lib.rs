//! The page in a real browser.
//!
//! ```text
//! Browser (Chromium, by the DevTools protocol) -> Ui (meshmeter ui)
//!     -> World: aggregator, Envoys, load, HPA
//! ```

pub mod axe;
pub mod browser;
pub mod fleet;
pub mod world;

pub use browser::{Browser, Tab, View};
pub use tests_support::ui::Ui;
pub use world::World;
