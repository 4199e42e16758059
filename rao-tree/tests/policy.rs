//! The buffers and masks between a policy, its caller and a constraint.

use rao_tree::{Completion, CompletionError, Mask, Token};

#[test]
fn a_completion_needs_buffers_that_fit_together() {
    let (mut tokens, mut logprobs, mut masks) = ([Token(0); 2], [0.0; 3], [0; 4]);
    assert!(Completion::new(&mut tokens, &mut logprobs[..2], &mut masks, 2).is_ok());
    assert!(Completion::new(&mut tokens, &mut logprobs[..2], &mut [], 0).is_ok());
    assert!(Completion::new(&mut tokens, &mut logprobs, &mut masks, 2).is_err());
    assert!(Completion::new(&mut tokens, &mut logprobs[..2], &mut masks, 1).is_err());
    // A product that wraps around to the right length is not the right length.
    let words = usize::MAX / 2 + 1;
    let error = Completion::new(&mut tokens, &mut logprobs[..2], &mut [], words).err();
    assert_eq!(
        error,
        Some(CompletionError {
            tokens: 2,
            logprobs: 2,
            masks: 0,
            words
        })
    );
}

#[test]
fn a_completion_grows_in_its_callers_buffers() {
    let (mut tokens, mut logprobs, mut masks) = ([Token(0); 3], [0.0; 3], [7; 6]);
    let mut completion = Completion::new(&mut tokens, &mut logprobs, &mut masks, 2).unwrap();
    assert!(completion.is_empty());
    assert!(completion.push(Token(5), -1.0, None));
    assert!(completion.push(Token(6), -2.0, Some(&[3])));
    assert_eq!(
        (completion.len(), completion.room(), completion.is_full()),
        (2, 1, false)
    );

    // Another call goes on where this one stopped.
    let completion = Completion::new(&mut tokens, &mut logprobs, &mut masks, 2).unwrap();
    let mut completion = completion.resumed(2);
    assert!(completion.push(Token(7), -3.0, Some(&[1, 2, 3])));
    assert!(!completion.push(Token(8), -4.0, None), "it is full");
    assert_eq!(completion.tokens(), [Token(5), Token(6), Token(7)]);
    assert_eq!(completion.logprobs(), [-1.0, -2.0, -3.0]);
    // All allowed; what the mask leaves out is not; what is beyond the vocabulary is dropped.
    assert_eq!(masks, [u64::MAX, u64::MAX, 3, 0, 1, 2]);
    let completion = Completion::new(&mut tokens, &mut logprobs, &mut [], 0).unwrap();
    assert_eq!(completion.resumed(9).len(), 3);
}

#[test]
fn a_mask_is_a_set_of_tokens() {
    assert_eq!([0, 1, 64, 65].map(Mask::words), [0, 1, 1, 2]);
    let mut words = [u64::MAX; 2];
    Mask::cleared(&mut words).allow_all();
    assert_eq!(words, [u64::MAX; 2]);
    let mut mask = Mask::cleared(&mut words);
    for token in [0, 63, 64, 127, 128, u32::MAX] {
        assert!(!mask.allows(Token(token)));
        mask.allow(Token(token));
        assert_eq!(mask.allows(Token(token)), token < 128, "{token}");
    }
    assert_eq!(mask.as_words(), [1 | 1 << 63, 1 | 1 << 63]);
    mask.allow_all();
    assert_eq!(mask.as_words(), [u64::MAX; 2]);
}
