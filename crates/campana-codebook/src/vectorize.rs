//! Compiling loops for the vector instructions that the processor has.

/// Runs `f` compiled for the best instruction set of this processor.
///
/// `f`, a closure marked `#[inline(always)]`, and all functions that it calls
/// in loops must be inlined to be compiled so. The struct is there because a
/// closure handed to `pulp` directly would be called through an adapter of
/// `FnOnce` that is not inlined, and so be compiled for the oldest processor.
#[inline(always)]
pub fn vectorized<R>(f: impl FnMut() -> R) -> R {
    struct Loop<F>(F);
    impl<R, F: FnMut() -> R> pulp::WithSimd for Loop<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Loop(f))
}
