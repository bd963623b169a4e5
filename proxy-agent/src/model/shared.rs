// SPDX-License-Identifier: Apache-2.0
//! Texts that many objects have, kept once: names of nodes, namespaces, Services and ports.

use std::{collections::HashSet, sync::Arc};

/// How many texts may be there before it is looked whether anybody still has them.
const FEW: usize = 1024;

/// The texts that objects share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    texts: HashSet<Arc<str>>,
    /// How many there were when the last was forgotten that nobody had.
    kept: usize,
}

impl Shared {
    /// Has a text be the one that others have already, if they have.
    pub(super) fn share(&mut self, text: &mut Arc<str>) {
        if let Some(known) = self.texts.get(text) {
            text.clone_from(known);
            return;
        }
        // Each has been forgotten by the time that as many new ones have come.
        if self.texts.len() >= 2 * self.kept.max(FEW) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.kept = self.texts.len();
        }
        let _ = self.texts.insert(Arc::clone(text));
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, FEW, Shared};

    #[test]
    fn equal_texts_become_one() {
        let mut shared = Shared::default();
        let [mut one, mut other]: [Arc<str>; 2] = ["node".into(), "node".into()];
        shared.share(&mut one);
        shared.share(&mut other);
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn what_nobody_has_is_forgotten() {
        let mut shared = Shared::default();
        let mut kept: Arc<str> = "kept".into();
        shared.share(&mut kept);
        for number in 0..10 * FEW {
            shared.share(&mut number.to_string().into());
        }
        assert!(shared.texts.len() <= 2 * FEW && shared.texts.contains("kept"));
    }
}
