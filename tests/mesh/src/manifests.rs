//! The walkthrough's custom resources.

const DJAPP: &str = include_str!("../djapp.yaml");

/// djapp with these weights of jazz's two versions.
pub fn djapp((first, second): (u32, u32)) -> String {
    DJAPP
        .replace("weight: 95", &format!("weight: {first}"))
        .replace("weight: 5\n", &format!("weight: {second}\n"))
}
