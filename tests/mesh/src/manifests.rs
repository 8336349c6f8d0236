//! The walkthrough's custom resources.

use anyhow::Result;
use serde_json::Value;

const DJAPP: &str = include_str!("../djapp.yaml");

/// djapp with these weights of jazz's two versions.
pub fn djapp((first, second): (u32, u32)) -> String {
    DJAPP
        .replace("weight: 95", &format!("weight: {first}"))
        .replace("weight: 5\n", &format!("weight: {second}\n"))
}

/// The same, one by one.
pub fn objects(weights: (u32, u32)) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(&djapp(weights))?)
}
