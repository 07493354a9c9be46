//! Which memory each value gets: buffers are used again as soon as nothing
//! reads them any more.

use std::collections::HashMap;

use super::{Place, Program};

/// Replaces the buffers that the compiler numbered, each written once, by
/// few that are used many times, and notes where slots are free.
pub(super) fn assign(program: &mut Program, count: usize) {
    let mut last_use = vec![0; count];
    let mut last_slot_use: HashMap<usize, usize> = HashMap::new();
    for (i, step) in program.steps.iter().enumerate() {
        for place in &step.reads {
            match place {
                Place::Buffer(buffer) => last_use[*buffer] = i,
                Place::Slot(slot) => {
                    last_slot_use.insert(*slot, i);
                }
                _ => {}
            }
        }
        for (buffer, _) in step.write.iter().chain(&step.scratch) {
            last_use[*buffer] = last_use[*buffer].max(i);
        }
    }
    for val in &program.outputs {
        match val.place {
            Place::Buffer(buffer) => last_use[buffer] = usize::MAX,
            Place::Slot(slot) => {
                last_slot_use.remove(&slot);
            }
            _ => {}
        }
    }
    for (slot, step) in last_slot_use {
        program.steps[step].frees.push(slot);
    }

    let mut memory = Memory {
        lens: Vec::new(),
        free: Vec::new(),
    };
    let mut real = vec![usize::MAX; count];
    // Buffers to give back after each step.
    let mut expiring: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, step) in program.steps.iter_mut().enumerate() {
        if let Some((buffer, len)) = &mut step.write {
            let reused = match (step.in_place, step.reads.first()) {
                (true, Some(Place::Buffer(read))) if last_use[*read] == i => Some(real[*read]),
                _ => None,
            };
            let place = reused.unwrap_or_else(|| memory.take(*len));
            step.in_place = reused.is_some();
            real[*buffer] = place;
            if last_use[*buffer] != usize::MAX {
                expiring.entry(last_use[*buffer]).or_default().push(place);
            }
            *buffer = place;
        }
        if let Some((buffer, len)) = &mut step.scratch {
            *buffer = memory.take(*len);
            memory.free.push(*buffer);
        }
        for place in expiring.remove(&i).unwrap_or_default() {
            // What was overwritten in place lives on under another number.
            if unread(&last_use, i, &real, place) && !memory.free.contains(&place) {
                memory.free.push(place);
            }
        }
        step.reads
            .iter_mut()
            .for_each(|place| relocate(place, &real));
        if let super::step::Action::Plain { inputs, .. } = &mut step.action {
            inputs
                .iter_mut()
                .flatten()
                .for_each(|(_, place)| relocate(place, &real));
        }
    }
    program
        .outputs
        .iter_mut()
        .for_each(|val| relocate(&mut val.place, &real));
    program.buffers = memory.lens;
}

/// Whether no buffer in this place is read after the step.
fn unread(last_use: &[usize], step: usize, real: &[usize], place: usize) -> bool {
    !real
        .iter()
        .zip(last_use)
        .any(|(&at, &last)| at == place && last > step)
}

fn relocate(place: &mut Place, real: &[usize]) {
    if let Place::Buffer(buffer) = place {
        *buffer = real[*buffer];
    }
}

/// Buffers made so far and those that nothing uses.
struct Memory {
    lens: Vec<usize>,
    free: Vec<usize>,
}

impl Memory {
    /// The smallest free buffer that is long enough, or the longest made longer, or a new one.
    fn take(&mut self, len: usize) -> usize {
        let fitting = self
            .free
            .iter()
            .copied()
            .filter(|&b| self.lens[b] >= len)
            .min_by_key(|&b| self.lens[b]);
        let longest = self.free.iter().copied().max_by_key(|&b| self.lens[b]);
        match fitting.or(longest) {
            Some(buffer) => {
                self.free.retain(|&other| other != buffer);
                self.lens[buffer] = self.lens[buffer].max(len);
                buffer
            }
            None => {
                self.lens.push(len);
                self.lens.len() - 1
            }
        }
    }
}
