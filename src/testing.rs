//! What only tests and drills need inside the gateway: points at which it is killed, and rules that
//! can be broken. All of it is behind the feature `testing`; without it the macros here leave
//! nothing in the program.

#[cfg(feature = "testing")]
pub mod kill;
#[cfg(feature = "testing")]
pub mod mutation;

/// Marks a kill point.
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {
        ::fail::fail_point!($name);
    };
}

/// What is done instead while a rule is broken: `mutate!(NoAmountCheck => return None)`, or only on
/// a condition of its own: `mutate!(NoAmountCheck if amount == asked => return None)`. What decides
/// by itself whether it is broken takes a value's place: `mutate!(let answer = repeated(answer))`,
/// and what cleans up after it is done in any case: `mutate!(catch_up().await?)`.
#[macro_export]
macro_rules! mutate {
    (let $name:ident = $value:expr) => {
        #[cfg(feature = "testing")]
        let $name = $value;
    };
    ($mutation:ident $(if $when:expr)? => $instead:expr) => {
        #[cfg(feature = "testing")]
        if $crate::mutated!($mutation) $(&& $when)? {
            $instead;
        }
    };
    ($always:expr) => {
        #[cfg(feature = "testing")]
        $always;
    };
}

/// Whether a rule is broken. Never without the feature.
#[cfg(feature = "testing")]
#[macro_export]
macro_rules! mutated {
    ($mutation:ident) => {
        $crate::testing::mutation::mutated($crate::testing::mutation::Mutation::$mutation)
    };
}

/// Whether a rule is broken. Never without the feature.
#[cfg(not(feature = "testing"))]
#[macro_export]
macro_rules! mutated {
    ($mutation:ident) => {
        false
    };
}
