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
/// Once the kernel has refused one, no further ones are begun. Iterators need the kernel's type information. Whether it takes them turns out when they are asked
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
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    in_parallel(threads, found, |(_, name, program)| {
        load(program, btf).map_err(|error| Error::Program(name, error))
    })
}

/// Works on items in their order, several at a time, until an error: none is begun after it.
fn in_parallel<T, E>(
    threads: usize,
    items: Vec<T>,
    each: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E>
where
    T: Send,
    E: Send,
{
    let threads = threads.min(items.len());
    let waiting = Mutex::new(VecDeque::from(items));
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || lock().pop_front();
    let work = || {
        while let Some(item) = next() {
            each(item).inspect_err(|_| lock().clear())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let join = |other: thread::ScopedJoinHandle<'_, Result<(), E>>| {
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    };
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_is_begun_after_an_error() {
        let begun = AtomicUsize::new(0);
        // The second item is under way until long after the first has failed.
        let both = Barrier::new(2);
        let worked = in_parallel(2, (0..100).collect(), |item| {
            let _ = begun.fetch_add(1, Ordering::Relaxed);
            if item < 2 {
                let _ = both.wait();
            }
            if item == 0 {
                return Err(item);
            }
            thread::sleep(Duration::from_millis(200));
            Ok(())
        });
        assert_eq!(worked, Err(0));
        assert_eq!(begun.into_inner(), 2);
    }

    #[test]
    fn all_items_are_worked_on() {
        let begun = AtomicUsize::new(0);
        let work = |_: u32| {
            let _ = begun.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(())
        };
        in_parallel(3, (0..100).collect(), work).unwrap();
        in_parallel(3, Vec::new(), work).unwrap();
        assert_eq!(begun.into_inner(), 100);
    }
}
