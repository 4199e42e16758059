//! A driver run whose nodes do what the shape of the tree wants: no policy and no environment, so that what is left is the driver.

use rao_tree::{
    Action, Arena, Budget, Driver, DriverError, EventSink, Limits, Observation, Outcome, Stop, Success, Token, Want,
    WeightsVersion,
};

/// Every node above depth `depth` delegates once to `children` children, acts again when they are done, and finishes.
#[derive(Clone, Copy)]
pub struct Shape {
    pub children: u8,
    pub depth: u8,
}

impl Shape {
    pub fn nodes(self) -> usize {
        (0..=u32::from(self.depth))
            .map(|level| usize::from(self.children).pow(level))
            .sum()
    }

    fn limits(self) -> Limits {
        Limits {
            depth_max: self.depth,
            nodes_max: self.nodes() as u32,
            children_max: self.children.into(),
            steps_max: 4,
            tokens_max: u64::from(u32::MAX),
            action_max: 8,
            context_max: 64,
            concurrent_max: 64,
            deadline_us: None,
        }
    }
}

/// Runs the tree to its end: prompts of 3 tokens, actions of 4, 2 tokens back from each delegation.
pub fn run<A: Arena, S: EventSink>(arena: A, shape: Shape, sink: &mut S) -> Result<Driver<A>, DriverError> {
    let mut driver = Driver::open(arena, shape.limits(), "a task", 1, WeightsVersion(1), sink);
    let action = Action {
        tokens: &[Token(5), Token(6), Token(7), Token(8)],
        logprobs: &[-0.5; 4],
        weights: WeightsVersion(1),
        stop: Stop::Complete,
    };
    let mut room = [Token(0); 3];
    let mut seen = |tokens: usize, use_it: &mut dyn FnMut(&Observation<'_>) -> Result<(), DriverError>| {
        let mut seen = Observation::new(&mut room);
        (0..tokens).for_each(|token| seen.push(Token(token as u32)));
        use_it(&seen)
    };
    let mut now = 0;
    while let Some(want) = driver.poll(now, sink)? {
        now += 1;
        match want {
            Want::Open { parent, .. } => {
                let node = driver.handle_spawn(parent, "a part of it", Budget::UNLIMITED, now, sink)?;
                seen(3, &mut |seen| driver.handle_prompt(node, seen, now, sink))?;
            }
            Want::Sample { node, .. } => {
                if driver.handle_action(node, action, now, sink)? {
                    let delegates = driver
                        .tree()
                        .node(node)
                        .is_some_and(|entry| entry.depth.0 < shape.depth && entry.children == 0);
                    let outcome = match delegates {
                        true => Outcome::Delegate {
                            children: shape.children,
                        },
                        false => Outcome::Finish(Success::ONE),
                    };
                    seen(0, &mut |seen| {
                        driver.handle_outcome(node, outcome, seen, b"done", now, sink)
                    })?;
                }
            }
            Want::Resume { node, .. } => seen(2, &mut |seen| {
                driver.handle_outcome(node, Outcome::Continue, seen, &[], now, sink)
            })?,
            Want::Retire { .. } => {}
        }
    }
    Ok(driver)
}
