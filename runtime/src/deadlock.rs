//! Why nothing goes on: the circle of engines that wait for one another.

use kiln_machine::isa::Engine;

use crate::device::{Blocked, Device};
use crate::error::{SimError, Waiting};

/// The error of a device of which no engine goes on: a circle of waits, or the chain that leads to an engine that has
/// ended.
pub(crate) fn error(device: &Device<'_>, cycle: u64) -> SimError {
    let first = (0..device.codes.len()).find(|i| device.blocked(*i).is_some());
    let mut path: Vec<usize> = Vec::new();
    let mut circle = false;
    let mut next = first;
    while let Some(index) = next {
        if let Some(start) = path.iter().position(|seen| *seen == index) {
            path.drain(..start);
            circle = true;
            break;
        }
        path.push(index);
        next = waits_for(device, index);
    }
    SimError::Deadlock {
        cycle,
        waits: path.into_iter().map(|index| waiting(device, index)).collect(),
        circle,
    }
}

/// The engine that could signal what this one waits for, if it has not ended.
fn waits_for(device: &Device<'_>, index: usize) -> Option<usize> {
    let (core, engine) = match device.blocked(index)? {
        Blocked::Semaphore { semaphore, .. } => {
            (device.codes[index].core, device.semaphores(index).users(semaphore).producer?)
        }
        Blocked::Cores { group } => (*device.missing(index, group).first()?, Engine::Col),
        Blocked::Transfers => return None,
    };
    let at = device.codes.iter().position(|code| code.core == core && code.engine == engine)?;
    (!device.streams[at].halted).then_some(at)
}

fn waiting(device: &Device<'_>, index: usize) -> Waiting {
    let why = match device.blocked(index) {
        Some(Blocked::Semaphore { semaphore, n }) => {
            let producer = match device.semaphores(index).users(semaphore).producer {
                Some(producer) => format!("signalled by {producer}"),
                None => "signalled by no instruction".to_owned(),
            };
            let count = device.semaphores(index).count(semaphore);
            format!("sem{semaphore} is {count}, needs {n}, {producer}")
        }
        Some(Blocked::Transfers) => "waits for its transfers".to_owned(),
        Some(Blocked::Cores { group }) => {
            let missing: Vec<String> = device.missing(index, group).iter().map(u8::to_string).collect();
            let missing = missing.join(", ");
            format!("waits for the other cores of group {group}, of which these have not come: {missing}")
        }
        None => "runs".to_owned(),
    };
    let (code, stream) = (&device.codes[index], &device.streams[index]);
    let pc = code.steps.get(stream.at).map_or(0, |step| step.pc);
    Waiting { core: code.core, engine: code.engine, pc, standing: device.standing(index), why }
}
