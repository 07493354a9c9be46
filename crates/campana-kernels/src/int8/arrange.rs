//! The order of weights in the vectors of an ISA.

use super::vector::QUARTER;

/// Brings steps of two groups into an order that is one of both together:
/// `bytes` are a panel's weights in so many bits, `width` bytes a group.
pub(super) fn arrange_steps(bytes: &mut [u8], bits: u8, width: usize, order: &[u8; 2 * QUARTER]) {
    if bits == 8 {
        for step in bytes.chunks_exact_mut(2 * width) {
            let (first, second) = step.split_at_mut(width);
            let quarters = first.as_chunks_mut().0.iter_mut();
            for (first, second) in quarters.zip(second.as_chunks_mut().0) {
                [*first, *second] = arranged([*first, *second], order);
            }
        }
        return;
    }
    // The two groups' codes are neighbours in each byte, as are two steps' of 2 bits.
    let mask = (1u8 << bits) - 1;
    for quarter in bytes.as_chunks_mut::<QUARTER>().0 {
        let from = *quarter;
        *quarter = [0; QUARTER];
        for shift in (0..8).step_by(2 * usize::from(bits)) {
            let codes = [shift, shift + usize::from(bits)].map(|at| from.map(|b| b >> at & mask));
            let [first, second] = arranged(codes, order);
            for (byte, (a, b)) in quarter.iter_mut().zip(first.into_iter().zip(second)) {
                *byte |= a << shift | b << (shift + usize::from(bits));
            }
        }
    }
}

fn arranged(groups: [[u8; QUARTER]; 2], order: &[u8; 2 * QUARTER]) -> [[u8; QUARTER]; 2] {
    let of = |vector: usize| {
        core::array::from_fn(|lane| {
            let place = usize::from(order[vector * QUARTER + lane]);
            groups[place / QUARTER][place % QUARTER]
        })
    };
    [of(0), of(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_every_width_come_into_the_same_order() {
        // Turned around by 5 places.
        let order: [u8; 2 * QUARTER] = core::array::from_fn(|i| ((i + 5) % 32) as u8);
        for bits in [2, 4, 8] {
            let steps = 2;
            let code = |step: usize, place: usize| ((step * 7 + place * 3) % (1 << bits)) as u8;
            // Two quarters in a vector; the second's codes are one step's later.
            let pack = |code: &dyn Fn(usize, usize) -> u8| {
                let mut bytes = vec![0u8; steps * 2 * 2 * QUARTER * usize::from(bits) / 8];
                for (step, quarter, place) in (0..128).map(|i| (i / 64, i / 32 % 2, i % 32)) {
                    let (group, lane) = (place / QUARTER, place % QUARTER);
                    let field = (2 * step + group) * usize::from(bits);
                    let unit = if bits == 8 {
                        2 * step + group
                    } else {
                        field / 8
                    };
                    let at = unit * 2 * QUARTER + quarter * QUARTER + lane;
                    bytes[at] |=
                        code(step + quarter, place) << if bits == 8 { 0 } else { field % 8 };
                }
                bytes
            };
            let mut bytes = pack(&code);
            arrange_steps(&mut bytes, bits, 2 * QUARTER, &order);
            let expected = pack(&|step, place| code(step, usize::from(order[place])));
            assert_eq!(bytes, expected, "{bits} bits");
        }
    }
}
