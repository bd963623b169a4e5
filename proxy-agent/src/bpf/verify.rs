// SPDX-License-Identifier: Apache-2.0
//! Has the kernel verify programs, several at a time: that takes most of a start.

use std::{
    collections::VecDeque,
    num::NonZero,
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use super::Error;

/// What the iterator goes over.
pub(super) const UDP: &str = "udp";

/// Verifies the programs of these names, those that are not yet. What takes longest should come first.
/// Iterators need the kernel's type information. Whether it takes them turns out when they are asked
/// for, since the rest can do without.
///
/// # Errors
///
/// If there is none of a name, or the kernel refuses one.
pub(super) fn verify(ebpf: &mut Ebpf, names: &[&str], btf: Option<&Btf>) -> Result<(), Error> {
    let mut found: Vec<_> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| {
            let place = names.iter().position(|wanted| *wanted == name)?;
            Some((place, name.to_owned(), program))
        })
        .collect();
    if let Some(lacking) = names.iter().find(|name| found.iter().all(|(_, it, _)| it != *name)) {
        return Err(Error::NoProgram((*lacking).to_owned()));
    }
    found.sort_by_key(|(place, ..)| *place);
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(found.len());
    let waiting = Mutex::new(VecDeque::from(found));
    let work = || {
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some((_, name, program)) = next() {
            load(program, btf).map_err(|error| Error::Program(name, error))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let join = |other: thread::ScopedJoinHandle<'_, Result<(), Error>>| {
            other.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        };
        // All have ended before any error is looked at.
        let others: Vec<_> = others.into_iter().map(join).collect();
        others.into_iter().fold(own, Result::and)
    })
}

/// Loads a program, if it is not yet.
fn load(program: &mut Program, btf: Option<&Btf>) -> Result<(), ProgramError> {
    if program.fd().is_ok() {
        return Ok(());
    }
    match program {
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::Iter(program) => {
            let _ = btf.map(|btf| program.load(UDP, btf));
            Ok(())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
