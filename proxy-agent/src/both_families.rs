// SPDX-License-Identifier: Apache-2.0
//! Tests that are there for each family.

/// Runs each of these functions, generic over the family, for both.
macro_rules! in_both_families {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn v4() { super::$name::<proxy_common::V4>(); }
            #[test]
            fn v6() { super::$name::<proxy_common::V6>(); }
        }
    )+ };
}
pub(crate) use in_both_families;
