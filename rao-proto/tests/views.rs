//! Views mean the same wherever the bytes lie, and sinks forward.

mod common;

use common::{encoded, logprobs};
use rao_proto::testing::RECORDS;
use rao_proto::*;

#[test]
fn views_are_equal_by_value() {
    let record = RECORDS[4];
    let bytes = encoded(&record);
    let decoded = decode(&bytes).unwrap().0;
    assert_eq!(decoded, record);
    let Event::Act {
        tokens, logprobs: read, ..
    } = decoded.event
    else {
        panic!("an act")
    };
    assert_eq!(tokens, Tokens::new(&[Token(127), Token(128)]));
    assert_ne!(tokens, Tokens::new(&[Token(127)]));
    assert_ne!(tokens, Tokens::new(&[Token(128), Token(127)]));
    assert_eq!(read, logprobs(&[-0.5, 0.0]), "equal as numbers");
    assert!(
        read.iter().eq([-0.5, 0.0]) && read.iter().nth(1).unwrap().is_sign_negative(),
        "kept bit for bit"
    );
    assert_eq!(format!("{tokens:?} {read:?}"), "[127, 128] [-0.5, -0.0]");
}

#[test]
fn decoded_views_borrow_from_the_frame() {
    let bytes = encoded(&RECORDS[1]);
    let Event::Spawn { task, .. } = decode(&bytes).unwrap().0.event else {
        panic!("a spawn")
    };
    assert!(bytes.as_ptr_range().contains(&task.as_ptr()));
}

#[test]
fn sinks_forward_and_drop() {
    #[derive(Default)]
    struct Count(usize);
    impl EventSink for Count {
        fn record(&mut self, _: &Record<'_>) {
            self.0 += 1;
        }
    }
    fn drive(mut sink: impl EventSink) {
        RECORDS.iter().for_each(|record| sink.record(record));
    }
    let mut count = Count::default();
    drive(&mut count);
    drive(&mut count as &mut dyn EventSink);
    drive(());
    assert_eq!(count.0, 2 * RECORDS.len());
}
