//! Whole pages from whole documents: as they are committed, and with hostile names in every text.

#[cfg(test)]
mod documents;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod parsed;
#[cfg(test)]
mod unknown;
#[cfg(test)]
mod updates;
