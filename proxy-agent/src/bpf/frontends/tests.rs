// SPDX-License-Identifier: Apache-2.0
//! The order in which frontends and their filter are written, and what failures leave, in both families.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use proxy_common::{
    Address as _, Port, Protocol,
    frontend::{FrontendKind, ServiceIndex},
};

use super::*;
use crate::both_families::in_both_families;

/// What a store can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Set,
    Put,
    Remove,
    Clear,
}

/// A store that fails when it is told to, and sees to it that no entry is ever without its bit.
struct Fake<F: Family> {
    entries: BTreeMap<FrontendKey<F>, Frontend>,
    rows: HashMap<u32, FilterRow>,
    done: Vec<Step>,
    /// What it fails at.
    fails: Option<Step>,
}

impl<F: Family> Fake<F> {
    fn step(&mut self, step: Step) -> Result<(), Step> {
        if self.fails == Some(step) {
            return Err(step);
        }
        self.done.push(step);
        Ok(())
    }

    fn has(&self, address: &F::Addr) -> bool {
        let bit = FilterBit::of(address);
        self.rows.get(&bit.row()).is_some_and(|row| row.has(bit))
    }

    fn check(&self) {
        for key in self.entries.keys() {
            assert!(self.has(&key.address), "{key:?} is hidden");
        }
    }
}

impl<F: Family> Store for Fake<F> {
    type Family = F;
    type Error = Step;

    fn put(&mut self, key: FrontendKey<F>, frontend: Frontend) -> Result<bool, Step> {
        self.step(Step::Put)?;
        let is_new = self.entries.insert(key, frontend).is_none();
        self.check();
        Ok(is_new)
    }

    fn remove(&mut self, key: &FrontendKey<F>) -> Result<bool, Step> {
        self.step(Step::Remove)?;
        Ok(self.entries.remove(key).is_some())
    }

    fn has_bit(&self, bit: FilterBit) -> Result<bool, Step> {
        Ok(self.rows.get(&bit.row()).is_some_and(|row| row.has(bit)))
    }

    fn write_bit(&mut self, bit: FilterBit, is_set: bool) -> Result<(), Step> {
        self.step(if is_set { Step::Set } else { Step::Clear })?;
        let row = self.rows.entry(bit.row()).or_default();
        *row = row.with(bit, is_set);
        self.check();
        Ok(())
    }

    fn mend_row(&mut self, number: u32, row: FilterRow) -> Result<(), Step> {
        let _ = self.rows.insert(number, row);
        self.check();
        Ok(())
    }
}

/// What is done with frontends that have few addresses, so that several have a bit together.
struct Scene<F: Family> {
    frontends: Frontends<Fake<F>>,
    /// Two addresses of one bit.
    addresses: [F::Addr; 2],
}

/// The address with this number.
fn address<F: Family>(number: u32) -> F::Addr {
    let v4 = Ipv4Addr::from_bits(0x0a60_0000 + number).into();
    let v6 = Ipv6Addr::from_bits(0xfd00_0010_0096 << 80 | u128::from(number)).into();
    [v4, v6].into_iter().find_map(F::Addr::from_ip).unwrap()
}

const SERVICE: Frontend = Frontend::new(ServiceIndex::FIRST, FrontendKind::ClusterIp);

impl<F: Family> Scene<F> {
    fn new() -> Self {
        let mut known = HashMap::new();
        let addresses = (0..).find_map(|number| {
            let address = address::<F>(number);
            known.insert(FilterBit::of(&address), address).map(|other| [other, address])
        });
        let fake =
            Fake { entries: BTreeMap::new(), rows: HashMap::new(), done: Vec::new(), fails: None };
        Self { frontends: Frontends::new(fake), addresses: addresses.unwrap() }
    }

    fn key(&self, address: usize, port: u16) -> FrontendKey<F> {
        FrontendKey::new(self.addresses[address], Port::new(port), Protocol::TCP)
    }

    fn put(&mut self, address: usize, port: u16) -> Result<(), Step> {
        self.frontends.put(self.key(address, port), SERVICE)
    }

    fn remove(&mut self, address: usize, port: u16) -> Result<(), Step> {
        self.frontends.remove(&self.key(address, port))
    }

    /// What has been done since it was asked last.
    fn done(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.frontends.store.done)
    }

    fn fail_at(&mut self, step: impl Into<Option<Step>>) {
        self.frontends.store.fails = step.into();
    }

    /// Nothing is left: no entry, no bit, no count.
    fn is_empty(&self) -> bool {
        let Frontends { store, counts } = &self.frontends;
        let none = FilterRow::default();
        store.entries.is_empty() && store.rows.values().all(|row| *row == none) && counts.is_empty()
    }
}

fn the_bit_comes_first_and_goes_last<F: Family>() {
    let mut scene = Scene::<F>::new();
    scene.put(0, 80).unwrap();
    assert_eq!(scene.done(), [Step::Set, Step::Put]);
    scene.put(1, 80).unwrap();
    scene.put(0, 443).unwrap();
    assert_eq!(scene.done(), [Step::Put, Step::Put]);
    scene.remove(0, 80).unwrap();
    scene.remove(0, 443).unwrap();
    assert_eq!(scene.done(), [Step::Remove, Step::Remove]);
    scene.remove(1, 80).unwrap();
    assert_eq!(scene.done(), [Step::Remove, Step::Clear]);
    assert!(scene.is_empty());
    scene.put(1, 80).unwrap();
    assert_eq!(scene.done(), [Step::Set, Step::Put]);
}

fn what_is_written_again_counts_once<F: Family>() {
    let mut scene = Scene::<F>::new();
    for _ in 0..3 {
        scene.put(0, 80).unwrap();
    }
    assert_eq!(scene.done(), [Step::Set, Step::Put, Step::Put, Step::Put]);
    scene.remove(0, 80).unwrap();
    assert_eq!(scene.done(), [Step::Remove, Step::Clear]);
    assert!(scene.is_empty());
}

fn what_is_not_there_does_not_count<F: Family>() {
    let mut scene = Scene::<F>::new();
    scene.remove(0, 80).unwrap();
    scene.put(0, 80).unwrap();
    for _ in 0..3 {
        scene.remove(1, 80).unwrap();
        scene.remove(0, 443).unwrap();
    }
    assert!(scene.frontends.store.has(&scene.addresses[0]));
    scene.remove(0, 80).unwrap();
    assert!(scene.is_empty());
}

fn what_has_failed_does_not_count<F: Family>() {
    let mut scene = Scene::<F>::new();
    for step in [Step::Set, Step::Put] {
        scene.fail_at(step);
        assert_eq!(scene.put(0, 80), Err(step));
        assert!(scene.is_empty(), "after {step:?}");
    }
    scene.fail_at(None);
    scene.put(0, 80).unwrap();
    scene.fail_at(Step::Put);
    // Of the same address, of another one, and of one that is there.
    for (address, port) in [(0, 443), (1, 80), (0, 80)] {
        assert_eq!(scene.put(address, port), Err(Step::Put));
    }
    scene.fail_at(Step::Remove);
    assert_eq!(scene.remove(0, 80), Err(Step::Remove));
    assert!(scene.frontends.store.has(&scene.addresses[0]));
    scene.fail_at(None);
    scene.remove(0, 80).unwrap();
    assert!(scene.is_empty());
}

/// Such a bit costs time only, and goes with the next frontend that has it.
fn a_bit_that_cannot_be_cleared_is_set<F: Family>() {
    let mut scene = Scene::<F>::new();
    scene.put(0, 80).unwrap();
    scene.fail_at(Step::Clear);
    assert_eq!(scene.remove(0, 80), Err(Step::Clear));
    scene.fail_at(None);
    scene.remove(0, 80).unwrap();
    assert!(scene.frontends.store.has(&scene.addresses[0]));
    scene.put(1, 80).unwrap();
    scene.remove(1, 80).unwrap();
    assert!(scene.is_empty());
    // What has failed first is told.
    scene.fail_at(Step::Put);
    assert_eq!(scene.put(0, 80), Err(Step::Put));
}

/// The marks of endpoints are most of the frontends, and each has an address of its own.
fn bits_of_one_entry_take_no_memory<F: Family>() {
    let mut scene = Scene::<F>::new();
    let pair = scene.addresses;
    let others = (1 << 24..).map(address::<F>).take(300);
    let keys: Vec<_> = pair
        .into_iter()
        .chain(others)
        .map(|address| FrontendKey::new(address, Port::new(8080), Protocol::TCP))
        .collect();
    let mut shared = HashMap::<FilterBit, u32>::new();
    for key in &keys {
        *shared.entry(FilterBit::of(&key.address)).or_default() += 1;
        scene.frontends.put(*key, SERVICE).unwrap();
    }
    shared.retain(|_, count| *count > 1);
    assert_eq!(scene.frontends.counts, shared);
    for key in &keys {
        scene.frontends.remove(key).unwrap();
    }
    assert!(scene.is_empty());
}

/// An agent may have ended after it had set a bit, or before it had cleared one.
fn who_takes_them_over_counts_and_clears<F: Family>() {
    let mut scene = Scene::<F>::new();
    for (address, port) in [(0, 80), (0, 443), (1, 80)] {
        scene.put(address, port).unwrap();
    }
    let counts = scene.frontends.counts.clone();
    let other = address::<F>(1 << 24);
    scene.frontends.store.write_bit(FilterBit::of(&other), true).unwrap();
    let store = scene.frontends.store;
    let keys: Vec<_> = store.entries.keys().copied().collect();
    let mut frontends = Frontends::new(store);
    frontends.take_over(keys.iter()).unwrap();
    assert_eq!(frontends.counts, counts);
    assert!(!frontends.store.has(&other));
    for key in &keys {
        frontends.remove(key).unwrap();
    }
    scene.frontends = frontends;
    assert!(scene.is_empty());
}

in_both_families!(
    who_takes_them_over_counts_and_clears,
    bits_of_one_entry_take_no_memory,
    the_bit_comes_first_and_goes_last,
    what_is_written_again_counts_once,
    what_is_not_there_does_not_count,
    what_has_failed_does_not_count,
    a_bit_that_cannot_be_cleared_is_set,
);
