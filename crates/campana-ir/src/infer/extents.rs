//! Shapes as they are inferred, and what rules of several operators share.

use super::contents::Contents;
use super::scope::Scope;
use crate::graph::{Dim, Node};

/// Extents, outermost first.
pub(super) type Shape = Vec<Dim>;

/// `[batch, channels, 1, ..]`.
pub(super) fn pooled_globally(shape: Shape) -> Shape {
    let places = shape.into_iter().enumerate();
    let pooled = places.map(|(i, dim)| if i < 2 { dim } else { Dim::Fixed(1) });
    pooled.collect()
}

pub(super) fn unknown() -> Dim {
    Dim::Symbol(String::new())
}

pub(super) fn known(scope: &Scope, node: &Node, index: usize) -> Option<Vec<i64>> {
    scope.input_contents(node, index).and_then(Contents::known)
}

pub(super) fn broadcast(left: Option<Shape>, right: Option<Shape>) -> Option<Shape> {
    let (left, right) = (left?, right?);
    let rank = left.len().max(right.len());
    let at = |shape: &Shape, i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(i) => shape[i].clone(),
        None => Dim::Fixed(1),
    };
    let joined = (0..rank).map(|i| match (at(&left, i), at(&right, i)) {
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => other,
        (Dim::Fixed(extent), _) | (_, Dim::Fixed(extent)) => Dim::Fixed(extent),
        (a, b) if a == b => a,
        _ => unknown(),
    });
    Some(joined.collect())
}
