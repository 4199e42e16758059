//! Recording and playing: what was recorded is played, and what fails is said, once, with its place.

mod common;

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};

use common::{encoded, encoded_all, record};
use proptest::prelude::*;
use rao_proto::testing::RECORDS;
use rao_proto::*;

#[test]
fn a_file_is_what_was_encoded() {
    let path = std::env::temp_dir().join(format!("rao-proto-{}.trace", std::process::id()));
    let mut file = io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let mut recorder = Recorder::<_, _, 256>::new(|frame: &[u8]| file.write_all(frame));
    RECORDS.iter().for_each(|record| recorder.record(record));
    let len = recorder.finish().unwrap();
    file.flush().unwrap();
    drop(file);
    let mut file = std::fs::File::open(&path).unwrap();
    let mut player = Player::<_, 64>::new(|piece: &mut [u8]| file.read(piece));
    for record in RECORDS {
        assert_eq!(player.next_record().unwrap().unwrap(), *record);
    }
    assert!(player.next_record().is_none());
    assert_eq!(player.reassembler().offset(), len);
    assert_eq!(std::fs::read(&path).unwrap(), encoded_all(RECORDS));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn each_frame_is_handed_over_whole() {
    let mut frames = Vec::new();
    let mut recorder = Recorder::<_, io::Error, 256>::new(|frame: &[u8]| {
        frames.push(frame.to_vec());
        Ok(())
    });
    RECORDS.iter().for_each(|record| recorder.record(record));
    recorder.finish().unwrap();
    assert_eq!(frames, RECORDS.iter().map(encoded).collect::<Vec<_>>());
}

/// At every cap: whole frames up to it, and not one byte more, even where a later frame would fit.
#[test]
fn a_cap_keeps_whole_frames() {
    let whole = encoded_all(RECORDS);
    for bytes_max in 0..=whole.len() as u64 {
        let mut trace = Vec::new();
        let mut recorder = Recorder::<_, io::Error, 256>::new(|frame: &[u8]| {
            trace.extend_from_slice(frame);
            Ok(())
        })
        .capped(bytes_max);
        RECORDS.iter().for_each(|record| recorder.record(record));
        let bytes = recorder.bytes();
        let finished = recorder.finish();
        assert_eq!(trace.len() as u64, bytes);
        assert!(bytes <= bytes_max && whole.starts_with(&trace));
        let kept = Frames::new(&trace).map(Result::unwrap).count();
        match RECORDS.get(kept) {
            None => assert_eq!(finished.unwrap(), bytes),
            Some(refused) => {
                let needed = encoded_len(refused).unwrap();
                assert!(bytes + needed as u64 > bytes_max);
                let Err(RecordError::Full {
                    offset,
                    needed: found,
                    bytes_max: cap,
                }) = finished
                else {
                    panic!("full at {bytes_max}")
                };
                assert_eq!((offset, found, cap), (bytes, needed, bytes_max));
            }
        }
    }
}

#[test]
fn the_first_error_is_kept_and_nothing_follows_it() {
    // The third write fails, and only that one.
    let writes = RefCell::new(0);
    let mut recorder = Recorder::<_, _, 256>::new(|_: &[u8]| {
        *writes.borrow_mut() += 1;
        if *writes.borrow() == 3 { Err("no space") } else { Ok(()) }
    });
    RECORDS.iter().for_each(|record| recorder.record(record));
    let offset = RECORDS[..2].iter().map(|record| encoded(record).len() as u64).sum();
    assert_eq!(recorder.bytes(), offset);
    let error = RecordError::Write {
        offset,
        source: "no space",
    };
    assert_eq!(recorder.error(), Some(&error));
    assert_eq!(error.to_string(), format!("at byte {offset}: not written: no space"));
    assert_eq!(recorder.finish(), Err(error));
    assert_eq!(*writes.borrow(), 3);

    // The spawn takes 37 bytes.
    let mut recorder = Recorder::<_, (), 36>::new(|_: &[u8]| Ok(()));
    for index in [7, 1, 7] {
        recorder.record(&RECORDS[index]);
    }
    let offset = encoded(&RECORDS[7]).len() as u64;
    let source = EncodeError::BufferTooSmall {
        needed: 37,
        available: 36,
    };
    assert_eq!(recorder.finish(), Err(RecordError::Encode { offset, source }));
}

#[test]
fn a_failed_read_is_repeated_and_loses_nothing() {
    let bytes = encoded_all(RECORDS);
    let (mut rest, mut calls) = (&bytes[..], 0);
    let mut player = Player::<_, 64>::new(|piece: &mut [u8]| {
        calls += 1;
        if calls % 2 == 0 {
            Err("interrupted")
        } else {
            Ok(rest.read(&mut piece[..1]).unwrap())
        }
    });
    let (mut records, mut errors) = (Vec::new(), 0);
    while let Some(next) = player.next_record() {
        match next {
            Ok(record) => records.push(encoded(&record)),
            Err(PlayError::Read { offset, source }) => {
                errors += 1;
                assert_eq!(
                    (offset, source),
                    (errors, "interrupted"),
                    "every other call gave one byte"
                );
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(records.concat(), bytes);
    assert_eq!(errors, bytes.len() as u64);
}

#[test]
fn a_reader_that_claims_too_much_is_taken_at_its_slice() {
    let bytes = encoded_all(RECORDS);
    let mut rest = &bytes[..];
    let mut player = Player::<_, 64>::new(|piece: &mut [u8]| {
        let read = rest.read(piece)?;
        Ok::<_, io::Error>(if read == 0 { 0 } else { usize::MAX })
    });
    let mut records = 0;
    while let Some(next) = player.next_record() {
        // Where it lied, at the end of the bytes, what follows in the slice is noise.
        records += usize::from(next.is_ok());
    }
    assert_eq!(records, RECORDS.len());
}

proptest! {
    #[test]
    fn what_was_recorded_is_played(owned in prop::collection::vec(record(), 0..8), piece in 1..3000_usize) {
        let records: Vec<_> = owned.iter().map(|owned| owned.record()).collect();
        let mut trace = Vec::new();
        let mut recorder = Recorder::<_, io::Error, 2048>::new(|frame: &[u8]| trace.write_all(frame));
        records.iter().for_each(|record| recorder.record(record));
        prop_assert_eq!(recorder.finish().unwrap(), encoded_all(&records).len() as u64);
        let mut rest = &trace[..];
        let mut player = Player::<_, 2048>::new(|slice: &mut [u8]| {
            let len = slice.len().min(piece);
            rest.read(&mut slice[..len])
        });
        for record in &records {
            prop_assert_eq!(&player.next_record().unwrap().unwrap(), record);
        }
        prop_assert!(player.next_record().is_none());
    }
}
