//! Why nothing goes on: the cycle of engines that wait for one another.

use std::fmt::Write as _;

use crate::device::{Blocked, Device};

/// The wait cycle, one engine a line; or the chain of waits that ends at an engine that has ended.
pub(crate) fn describe(device: &Device<'_>) -> String {
    let first = (0..device.codes.len()).find(|i| device.blocked(*i).is_some());
    let mut path: Vec<usize> = Vec::new();
    let mut next = first;
    while let Some(index) = next {
        if let Some(start) = path.iter().position(|seen| *seen == index) {
            path.drain(..start);
            return lines(device, &path, "and round again");
        }
        path.push(index);
        next = waits_for(device, index);
    }
    lines(device, &path, "and nothing will signal it")
}

/// The engine that could signal what this one waits for, if it has not ended.
fn waits_for(device: &Device<'_>, index: usize) -> Option<usize> {
    let Some(Blocked::Semaphore { semaphore, .. }) = device.blocked(index) else { return None };
    let producer = device.semaphores.users(semaphore).producer?;
    let at = device.codes.iter().position(|code| code.engine == producer)?;
    (!device.streams[at].halted).then_some(at)
}

fn lines(device: &Device<'_>, path: &[usize], end: &str) -> String {
    let mut text = String::new();
    for index in path {
        let why = match device.blocked(*index) {
            Some(Blocked::Semaphore { semaphore, n }) => {
                let producer = match device.semaphores.users(semaphore).producer {
                    Some(producer) => format!("signalled by {producer}"),
                    None => "signalled by no instruction".to_owned(),
                };
                let count = device.semaphores.count(semaphore);
                format!("sem{semaphore} is {count}, needs {n}, {producer}")
            }
            Some(Blocked::Transfers) => "waits for its transfers".to_owned(),
            None => "runs".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}\n    {why}", device.standing(*index));
    }
    text + "  … " + end
}
