//! Wrong arithmetics that tests plant, one at a time, to see that they are caught. Outside of tests
//! there are none.

/// What an autoscaler could get wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Rounds down what the controller rounds up.
    RoundsDown,
    /// Scales for a difference within the tolerance.
    IgnoresTolerance,
    /// Takes a missing pod as the target on the way up, and as 0 on the way down.
    FillsMissingTheWrongWay,
    /// Bounds by minimum and maximum before stabilisation and policies, not after them.
    BoundsFirst,
    /// Lets the newest recommendation of the window win, not the highest or lowest.
    NewestStabilises,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether `fault` is planted.
#[cfg(test)]
pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

#[cfg(not(test))]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}

/// Runs `run` with `fault` planted in this thread.
#[cfg(test)]
pub(crate) fn plant<T>(fault: Fault, run: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(fault));
    let result = run();
    PLANTED.set(None);
    result
}

#[cfg(test)]
impl Fault {
    pub(crate) const ALL: [Self; 5] = [
        Self::RoundsDown,
        Self::IgnoresTolerance,
        Self::FillsMissingTheWrongWay,
        Self::BoundsFirst,
        Self::NewestStabilises,
    ];
}
