// SPDX-License-Identifier: Apache-2.0
//! Maps of which there are many, each with few entries: a node of a `BTreeMap` has room for eleven.

use std::{convert::Infallible, mem};

/// A map of few entries, in the order of their keys, with room for no more than these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Few<K, V> {
    /// An empty map, which takes no memory.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether it has no entry.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The values.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values, of which none is left.
    pub(crate) fn take_values(&mut self) -> impl Iterator<Item = V> {
        mem::take(&mut self.0).into_iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> Few<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(key))
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        Some(&self.0[self.place(key).ok()?].1)
    }

    /// The value of a key, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key).ok()?;
        Some(&mut self.0[place].1)
    }

    /// The value of a key; where there is none, the one that `make` makes.
    ///
    /// # Errors
    ///
    /// That of `make`; nothing has changed then.
    pub(crate) fn get_or_try_insert<E>(
        &mut self,
        key: K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<&mut V, E> {
        let place = match self.place(&key) {
            Ok(place) => place,
            Err(place) => {
                let value = make()?;
                self.0.reserve_exact(1);
                self.0.insert(place, (key, value));
                place
            }
        };
        Ok(&mut self.0[place].1)
    }

    /// The value of a key; where there is none, the default.
    pub(crate) fn get_or_insert_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let Ok(value) = self.get_or_try_insert(key, || Ok::<_, Infallible>(V::default()));
        value
    }

    /// Gives a key a value, and returns the one that it had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(place) => Some(mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (key, value));
                None
            }
        }
    }

    /// Takes a key away, and returns the value that it had.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (_, value) = self.0.remove(self.place(key).ok()?);
        self.0.shrink_to_fit();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Few;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((0_u8..6, 0_u8..4), 0..60)) {
            let (mut few, mut map) = (Few::new(), BTreeMap::new());
            for (key, what) in steps {
                match what {
                    0 => prop_assert_eq!(few.remove(&key), map.remove(&key)),
                    1 => {
                        let made = few.get_or_try_insert(key, || if key > 3 { Err(()) } else { Ok(9) });
                        let made = made.map(|value| *value).ok();
                        let known = map.get(&key).copied();
                        if known.is_none() && key <= 3 {
                            let _ = map.insert(key, 9);
                        }
                        prop_assert_eq!(made, known.or((key <= 3).then_some(9)));
                    }
                    _ => prop_assert_eq!(few.insert(key, what), map.insert(key, what)),
                }
                prop_assert!(few.iter().eq(map.iter()) && few.values().eq(map.values()));
                prop_assert_eq!(few.get(&key), map.get(&key));
                prop_assert_eq!(few.get_mut(&key), map.get_mut(&key));
                prop_assert_eq!(few.is_empty(), map.is_empty());
            }
            prop_assert!(few.take_values().eq(map.into_values()) && few.is_empty());
        }
    }
}
