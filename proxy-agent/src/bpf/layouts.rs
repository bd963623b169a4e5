// SPDX-License-Identifier: Apache-2.0
//! Descriptions of tables: what this agent leaves of its own, and how keys and values of a version that it does not
//! know become those of its own, field by field.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    marker::PhantomData,
    mem::MaybeUninit,
    path::Path,
    ptr,
};

use aya::{
    Pod,
    maps::{Array, MapData, MapError},
};
use proxy_common::{
    Family, V4, V6,
    affinity::{Affinity, AffinityKey},
    backend::Backend,
    flow::{Flow, FlowKey},
    frontend::FrontendKey,
    layout::{DESCRIPTION, Field, Layout},
    map_names,
    name::ServiceName,
    service::Service,
    socket::{Sent, Translation},
};

use super::{Error, object::pinned, raw_map::RawMap, tables::of_family};

/// What is described of a table.
const KEY: &str = "key";
const VALUE: &str = "value";

/// Where the fields of the keys, or of the values, of a table lie: offsets and sizes in bytes, by name.
type Fields = BTreeMap<String, (usize, usize)>;

/// A description, by table and part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layouts(BTreeMap<(String, String), Fields>);

impl Layouts {
    /// That of the tables that this agent has.
    pub(super) fn own() -> Self {
        let mut own = Self::default();
        own.add_family::<V4>();
        own.add_family::<V6>();
        own.add::<Translation>(map_names::CONNECTED, VALUE);
        own.add::<Sent>(map_names::SENT, VALUE);
        own
    }

    fn add_family<F: Family>(&mut self) {
        let name = of_family::<F>;
        self.add::<FlowKey<F>>(&name(map_names::FLOWS), KEY);
        self.add::<Flow<F>>(&name(map_names::FLOWS), VALUE);
        self.add::<AffinityKey<F>>(&name(map_names::AFFINITY), KEY);
        self.add::<Affinity>(&name(map_names::AFFINITY), VALUE);
        self.add::<FrontendKey<F>>(&name(map_names::FRONTENDS), KEY);
        self.add::<ServiceName>(&name(map_names::NAMES), VALUE);
        self.add::<Service>(&name(map_names::SERVICES), VALUE);
        self.add::<Backend<F>>(&name(map_names::BACKENDS), VALUE);
    }

    fn add<T: Layout>(&mut self, table: &str, part: &str) {
        let fields = T::FIELDS
            .iter()
            .map(|field: &Field| (field.name.to_owned(), (field.offset, field.size)));
        let _ = self.0.insert((table.to_owned(), part.to_owned()), fields.collect());
    }

    /// That of the tables that are pinned in a directory; nothing if none was left there.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, Error> {
        if !directory.join(map_names::LAYOUTS).exists() {
            return Ok(None);
        }
        // However long it is in that version.
        let mut text = Vec::new();
        RawMap::open(directory, map_names::LAYOUTS)?.for_each(|_, value| {
            text.extend_from_slice(value);
            Ok(())
        })?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let described = String::from_utf8_lossy(&text[..end]);
        Ok(Self::parse(&described).filter(|layouts| !layouts.0.is_empty()))
    }

    /// Leaves it with the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn leave(&self, directory: &Path) -> Result<(), Error> {
        let mut text = [0; DESCRIPTION];
        for (to, from) in text.iter_mut().zip(self.text().into_bytes()) {
            *to = from;
        }
        let error = |error: MapError| Error::Map(map_names::LAYOUTS.to_owned(), error);
        let map = pinned(directory, map_names::LAYOUTS)?;
        let mut row: Array<MapData, [u8; DESCRIPTION]> = map.try_into().map_err(error)?;
        row.set(0, text, 0).map_err(error)
    }

    /// One line for each field: table, part, name, offset and size.
    fn text(&self) -> String {
        let mut text = String::new();
        for ((table, part), fields) in &self.0 {
            for (name, (offset, size)) in fields {
                // To a string, it cannot fail.
                let _: fmt::Result = writeln!(text, "{table} {part} {name} {offset} {size}");
            }
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut layouts = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let mut word = || words.next();
            let (table, part, name) = (word()?, word()?, word()?);
            let place = (word()?.parse().ok()?, word()?.parse().ok()?);
            let fields = layouts.0.entry((table.to_owned(), part.to_owned())).or_default();
            let _ = fields.insert(name.to_owned(), place);
        }
        Some(layouts)
    }

    /// Whether the values of a table mean the same in both.
    pub(super) fn agree_on(&self, other: &Self, table: &str) -> bool {
        let of = |layouts: &Self| layouts.fields(table, VALUE).cloned();
        of(self).is_some() && of(self) == of(other)
    }

    fn fields(&self, table: &str, part: &str) -> Option<&Fields> {
        self.0.get(&(table.to_owned(), part.to_owned()))
    }

    /// How the keys of a table become those of this agent's; nothing if these have other fields.
    pub(super) fn keys<T: Layout + Pod>(&self, table: &str) -> Option<Conversion<T>> {
        let fields = self.fields(table, KEY)?;
        Conversion::new(fields).filter(|_| fields.len() == T::FIELDS.len())
    }

    /// How the values of a table become those of this agent's: fields that they do not have are zero, and what the own
    /// ones do not have is left out. Nothing if a field has another size.
    pub(super) fn values<T: Layout + Pod>(&self, table: &str) -> Option<Conversion<T>> {
        Conversion::new(self.fields(table, VALUE)?)
    }
}

/// Which bytes of a key or value become which of a `T`.
#[derive(Debug)]
pub(super) struct Conversion<T> {
    /// From where, to where, and how many.
    moves: Vec<(usize, usize, usize)>,
    to: PhantomData<fn() -> T>,
}

impl<T: Layout + Pod> Conversion<T> {
    /// From what has these fields; nothing if it has none of the own ones, or one with another size.
    fn new(from: &Fields) -> Option<Self> {
        let mut moves = Vec::new();
        for field in T::FIELDS {
            match from.get(field.name) {
                Some((offset, size)) if *size == field.size => {
                    moves.push((*offset, field.offset, *size));
                }
                Some(_) => return None,
                None => {}
            }
        }
        (!moves.is_empty()).then_some(Self { moves, to: PhantomData })
    }

    /// What some bytes become; nothing if they are too few.
    pub(super) fn convert(&self, from: &[u8]) -> Option<T> {
        let mut to = MaybeUninit::<T>::zeroed();
        for (offset, own, size) in &self.moves {
            let bytes = from.get(*offset..offset + size)?;
            // SAFETY: a field of a `T` is within it, and bytes of two objects do not overlap.
            unsafe {
                let own = to.as_mut_ptr().cast::<u8>().add(*own);
                ptr::copy_nonoverlapping(bytes.as_ptr(), own, *size);
            }
        }
        // SAFETY: any bytes are a valid value of what can be read from a map, and all are written.
        Some(unsafe { to.assume_init() })
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{
        Address as _, Port, Protocol,
        flow::{Hook, Tuple},
    };

    use super::*;

    #[test]
    fn a_description_fits_and_is_read_back() {
        let own = Layouts::own();
        assert!(own.text().len() < DESCRIPTION, "{}", own.text().len());
        assert_eq!(Layouts::parse(&own.text()), Some(own));
        assert_eq!(Layouts::parse("FLOWS_V4 key tuple.source x 4"), None);
        assert_eq!(Layouts::parse(""), Some(Layouts::default()));
    }

    fn key<F: Family>(source: &str, destination: &str) -> FlowKey<F> {
        let address = |text: &str| F::Addr::from_ip(text.parse().unwrap()).unwrap();
        let tuple = Tuple {
            source: address(source),
            destination: address(destination),
            source_port: Port::new(1000),
            destination_port: Port::new(80),
        };
        FlowKey::new(tuple, Protocol::TCP, Hook::EGRESS)
    }

    /// The bytes of a value.
    fn bytes<T: Pod>(value: &T) -> &[u8] {
        // SAFETY: it has no padding.
        unsafe { std::slice::from_raw_parts(ptr::from_ref(value).cast(), size_of::<T>()) }
    }

    /// Keys become what they were, from a table whose fields are the other way round.
    fn keys_of_other_layouts<F: Family>(source: &str, destination: &str) {
        let table = of_family::<F>(map_names::FLOWS);
        let expected = key::<F>(source, destination);
        let (mut other, mut laid_out) = (Layouts::default(), vec![0xff; 3]);
        let part = (table.clone(), KEY.to_owned());
        let fields = other.0.entry(part.clone()).or_default();
        for field in FlowKey::<F>::FIELDS.iter().rev() {
            let _ = fields.insert(field.name.to_owned(), (laid_out.len(), field.size));
            laid_out.extend_from_slice(&bytes(&expected)[field.offset..field.offset + field.size]);
        }
        let convert = |layouts: &Layouts, bytes: &[u8]| {
            layouts.keys::<FlowKey<F>>(&table).map(|keys| keys.convert(bytes))
        };
        assert_eq!(convert(&Layouts::own(), bytes(&expected)), Some(Some(expected)));
        assert_eq!(convert(&other, &laid_out), Some(Some(expected)));
        assert_eq!(convert(&other, &laid_out[1..]), Some(None));
        // What only one of them tells apart is not to be confused.
        let fields = other.0.get_mut(&part).unwrap();
        let hook = fields.remove("hook").unwrap();
        assert_eq!(convert(&other, &laid_out), None);
        let _ = other.0.get_mut(&part).unwrap().insert("hook".to_owned(), (hook.0, 2));
        assert_eq!(convert(&other, &laid_out), None);
    }

    #[test]
    fn keys_of_other_layouts_v4() {
        keys_of_other_layouts::<V4>("192.0.2.1", "198.51.100.7");
    }

    #[test]
    fn keys_of_other_layouts_v6() {
        keys_of_other_layouts::<V6>("2001:db8::1", "fd00::7");
    }

    #[test]
    fn values_may_have_more_fields_or_less() {
        let own = Affinity { generation: 7, ..Layouts::own().affinity(&[0; 12]) };
        let table = of_family::<V4>(map_names::AFFINITY);
        let less = format!("{table} value generation 2 4\n{table} value hits 6 8\n");
        let less = Layouts::parse(&less).unwrap();
        assert_eq!(less.affinity(&[1, 1, 7, 0, 0, 0, 9, 9]), own);
        let other_size = Layouts::parse(&format!("{table} value generation 0 8\n")).unwrap();
        assert!(other_size.values::<Affinity>(&table).is_none());
        let none = Layouts::parse(&format!("{table} value hits 0 8\n")).unwrap();
        assert!(none.values::<Affinity>(&table).is_none());
        assert!(!less.agree_on(&Layouts::own(), &table));
        assert!(Layouts::own().agree_on(&Layouts::own(), &table));
    }

    impl Layouts {
        fn affinity(&self, bytes: &[u8]) -> Affinity {
            let table = of_family::<V4>(map_names::AFFINITY);
            self.values(&table).unwrap().convert(bytes).unwrap()
        }
    }
}
