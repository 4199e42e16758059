//! Credit and the driver allocate nothing, in a program that could: counted by the global allocator. That they also link where there is no
//! allocator is shown in `proof/`.

#[path = "../examples/forests/batch.rs"]
mod batch;
#[path = "../benches/scripted/mod.rs"]
mod scripted;

use batch::Batch;
use rao_proto::{EventSink, Frames, Record, encode};
use rao_tree::credit::{Baseline, Credit, DepthMass, DepthScope, DepthWeights, Diagnostics, Estimator, Rule};
use rao_tree::{Node, Tree};
use scripted::{Shape, run};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// The system's allocator, which counts what this thread asks it for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call goes to the system's allocator unchanged. Counting does not allocate: the counter is initialised at compile time
// and has nothing to drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What came out, and how often it allocated.
fn allocations<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATIONS.get();
    let out = work();
    (out, ALLOCATIONS.get() - before)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| black_box(vec![0_u8; 100])).1, 1);
    let mut grows = Vec::with_capacity(1);
    let grow = || {
        grows.push(1);
        grows.push(black_box(2));
    };
    assert_eq!(allocations(grow).1, 1);
}

#[test]
fn credit_allocates_nothing() {
    use Rule::{Pooled, Rao, RootBroadcast, Sparse, TreeGrpo, TreeRl};
    let batch = Batch::large(3, 16, 8, 800);
    let mut credits = vec![Credit::default(); batch.nodes.len()];
    for rule in [Rao, Sparse, RootBroadcast, Pooled, TreeRl, TreeGrpo] {
        for scope in [DepthScope::Batch, DepthScope::Group] {
            let estimator = Estimator {
                rule,
                lambda: 0.4,
                router_penalty: 0.1,
                baseline: Baseline::Mean,
                depth_weights: DepthWeights::Discount,
                depth_scope: scope,
                depth_mass: DepthMass::ActionTokens,
                ..Estimator::default()
            };
            let (teaching, count) = allocations(|| estimator.assign(&batch.forest(), &mut credits));
            assert_eq!((teaching, count), (Ok(16), 0), "{rule:?}, {scope:?}");
        }
    }
}

/// A trace in a fixed buffer.
struct Trace<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> EventSink for Trace<N> {
    fn record(&mut self, record: &Record<'_>) {
        self.len += encode(record, &mut self.bytes[self.len..]).expect("the trace fits");
    }
}

#[test]
fn a_run_allocates_nothing() {
    type Arena = heapless::Vec<Node, 400>;
    let shape = Shape { children: 7, depth: 3 };
    let mut trace = Trace {
        bytes: [0; 1 << 17],
        len: 0,
    };
    let (driver, count) = allocations(|| run(Arena::new(), shape, &mut trace).unwrap());
    assert_eq!((driver.tree().nodes().len(), count), (400, 0));
    assert!(driver.is_closed());

    let mut diagnostics = Diagnostics::default();
    let fold = || {
        let mut tree = Tree::new(Arena::new());
        for record in Frames::new(&trace.bytes[..trace.len]) {
            tree.apply(&record.unwrap().event).unwrap();
        }
        diagnostics.add(&tree, &[Credit::default(); 400]).unwrap();
        tree.nodes().len()
    };
    assert_eq!(allocations(fold), (400, 0));
    assert_eq!(diagnostics.delegation_rate(), 57.0 / 400.0);
}
