//! New worlds and tasks with the distribution of the official ones, from a seed: [`generate`].
//!
//! The facts are those of the published generator (Gandhi et al., arXiv 2605.06639): five domains, twelve tiers above the base materials,
//! recipes that draw on the two tiers below (nearer ones more often) and now and then on a third or fourth, plus twelve items that join
//! domains at tiers 10 to 12. Random streams differ, so seed 42 here is another world than seed 42 there; the official one is
//! [`official::embedded`](super::official::embedded).

use super::Difficulty;
use super::builder::{WorldBuilder, WorldError};
use super::plan::{self, PlanError};
use super::tasks::{Benchmark, Task};
use super::world::{ItemId, World};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::sync::Arc;

/// What to generate; [`Default`] is what the official benchmark was made with, seed aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Decides everything that the other fields leave open.
    pub seed: u64,
    /// Items of a domain at tiers 1 and 2; every third tier has one less. 25, and 5 to 255.
    pub items_per_tier: u32,
    /// The share of each tier's items that are targets of validation tasks alone. 0.2.
    pub held_out: f64,
    /// Training tasks by difficulty; `None`: one for every item that is not held out and every count, as the official ones.
    pub train: Option<[usize; 4]>,
    /// Validation tasks by difficulty; `None`: one for every held-out item and every count.
    pub val: Option<[usize; 4]>,
    /// How much base material a task begins with.
    pub provision: Provision,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            seed: 0,
            items_per_tier: 25,
            held_out: 0.2,
            train: None,
            val: None,
            provision: Provision::Official,
        }
    }
}

/// How much of each base material a task begins with, before the buffer of 0 to 50 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provision {
    /// What it would take if every recipe made one item at a time: the official rule. 3 (easy) to 9
    /// (extreme) times what plain recursion uses up.
    #[default]
    Official,
    /// What plain recursion uses up ([`plan::base_needs`]): a wasted craft can cost the task.
    Scarce,
}

/// Generates a world and its tasks.
///
/// # Errors
/// [`GeneratorError`]: the specification asks for what cannot be.
pub fn generate(spec: &Spec) -> Result<Benchmark, GeneratorError> {
    let world = Arc::new(generate_world(spec.seed, spec.items_per_tier)?);
    let (train, val) = generate_tasks(&world, spec)?;
    Ok(Benchmark { world, train, val })
}

/// Generates a world alone.
///
/// # Errors
/// [`GeneratorError::ItemsPerTier`].
pub fn generate_world(seed: u64, items_per_tier: u32) -> Result<World, GeneratorError> {
    if !ITEMS_PER_TIER.contains(&items_per_tier) {
        return Err(GeneratorError::ItemsPerTier { items_per_tier });
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut builder = WorldBuilder::new();
    let mut pools: Vec<Vec<Vec<String>>> = Vec::with_capacity(DOMAINS.len());
    for domain in DOMAINS {
        // Base materials come in ten kinds; a pool as large as the other tiers' names the first ones more often.
        let base = (0..items_per_tier).map(|n| match domain {
            'm' | 'c' => format!("{domain}{}_ore", n % KINDS),
            _ => format!("raw_{domain}{}", n % KINDS),
        });
        let mut tiers = vec![base.collect::<Vec<_>>()];
        tiers[0].iter().try_for_each(|name| builder.base(name))?;
        for rule in &TIERS {
            let made = (0..items_per_tier - u32::from(rule.tier) / 3).map(|n| match n {
                0..KINDS => format!("{domain}{n}_i{}", rule.tier),
                _ => format!("{domain}{}_i{}_{n}", n % KINDS, rule.tier),
            });
            let made: Vec<String> = made.collect();
            for name in &made {
                let ingredients = draw_ingredients(&mut rng, rule, &tiers);
                let yields = rng.random_range(rule.yields.0..=rule.yields.1);
                builder.recipe(name, Some(rule.tier), yields, ingredients)?;
            }
            tiers.push(made);
        }
        pools.push(tiers);
    }
    for (tier, domains) in CROSS_DOMAIN {
        let ingredients: Vec<(&str, u32)> = domains
            .chars()
            .filter_map(|domain| DOMAINS.iter().position(|&known| known == domain))
            .map(|domain| {
                let pool = &pools[domain][usize::from(tier - CROSS_DISTANCE)];
                (pool[rng.random_range(0..pool.len())].as_str(), rng.random_range(1..=2))
            })
            .collect();
        builder.recipe(&format!("x{tier}_{domains}"), Some(tier), 1, ingredients)?;
    }
    Ok(builder.build()?)
}

/// Generates tasks for a world that need not be generated itself; [`Spec::items_per_tier`] plays no part.
///
/// # Errors
/// [`GeneratorError`]: a share outside 0 to 1, more tasks than there are distinct ones, or more material than can be counted.
pub fn generate_tasks(world: &Arc<World>, spec: &Spec) -> Result<(Vec<Task>, Vec<Task>), GeneratorError> {
    if !(0.0..=1.0).contains(&spec.held_out) {
        return Err(GeneratorError::HeldOut {
            held_out: spec.held_out,
        });
    }
    // A stream of its own: tasks do not depend on how many numbers the world took.
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(spec.seed);
    rng.jump();
    let mut targets = [Vec::new(), Vec::new()];
    for tier in Difficulty::ALL.into_iter().flat_map(Difficulty::tiers) {
        let mut items: Vec<ItemId> = world
            .items()
            .filter(|&item| world.tier(item) == tier && world.recipe(item).is_some())
            .collect();
        items.shuffle(&mut rng);
        let train = (items.len() as f64 * (1.0 - spec.held_out)) as usize;
        targets[1].extend(items.split_off(train.min(items.len())));
        targets[0].extend(items);
    }
    let mut writer = Writer {
        world,
        provision: spec.provision,
        official: official_needs(world),
        rng,
    };
    let train = writer.split("train", &targets[0], spec.train)?;
    let val = writer.split("val", &targets[1], spec.val)?;
    Ok((train, val))
}

/// Why nothing was generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GeneratorError {
    /// Too few items a tier for recipes to choose from, or too many to be useful.
    #[error("items_per_tier must lie in 5..=255, got {items_per_tier}")]
    ItemsPerTier {
        /// What was asked for.
        items_per_tier: u32,
    },
    /// A share that is none.
    #[error("held_out must lie in 0..=1, got {held_out}")]
    HeldOut {
        /// What was asked for.
        held_out: f64,
    },
    /// More tasks than there are pairs of an item and a count.
    #[error("{asked} {difficulty} {split} tasks were asked for, this world has {available} distinct ones")]
    TooManyTasks {
        /// `train` or `val`.
        split: &'static str,
        /// The difficulty.
        difficulty: Difficulty,
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        available: usize,
    },
    /// A task would need more of a base material than can be counted.
    #[error("{target} takes more base material than can be counted")]
    CountOverflow {
        /// What the task would ask for.
        target: String,
    },
    /// The world is none: never so for the worlds generated here.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// One tier's rule. Source of every number: the published generator and its 1,402 recipes.
struct TierRule {
    tier: u8,
    /// Fewest and most distinct ingredients.
    ingredients: (usize, usize),
    /// Least and most of each ingredient.
    counts: (u32, u32),
    /// Least and most items a batch makes: more at the bottom, or base materials would be needed by the million.
    yields: (u32, u32),
}

const fn rule(tier: u8, ingredients: (usize, usize), counts: (u32, u32), yields: (u32, u32)) -> TierRule {
    TierRule {
        tier,
        ingredients,
        counts,
        yields,
    }
}

const TIERS: [TierRule; 12] = [
    rule(1, (1, 1), (1, 2), (2, 4)),
    rule(2, (2, 2), (1, 2), (2, 3)),
    rule(3, (2, 3), (1, 2), (1, 2)),
    rule(4, (2, 3), (1, 2), (1, 2)),
    rule(5, (2, 3), (1, 1), (1, 2)),
    rule(6, (2, 4), (1, 1), (1, 1)),
    rule(7, (2, 4), (1, 1), (1, 1)),
    rule(8, (3, 5), (1, 1), (1, 1)),
    rule(9, (3, 5), (1, 1), (1, 1)),
    rule(10, (3, 5), (1, 1), (1, 1)),
    rule(11, (3, 5), (1, 1), (1, 1)),
    rule(12, (4, 6), (1, 1), (1, 1)),
];

const DOMAINS: [char; 5] = ['m', 'c', 'o', 'a', 't'];

/// Kinds of base material of a domain; further items of a tier take the same first letter and digit.
const KINDS: u32 = 10;

/// Items that join domains, each needing one item of every domain named.
const CROSS_DOMAIN: [(u8, &str); 12] = [
    (10, "mc"),
    (10, "ot"),
    (10, "am"),
    (10, "ct"),
    (11, "mct"),
    (11, "oam"),
    (11, "act"),
    (11, "tco"),
    (12, "mcat"),
    (12, "oacm"),
    (12, "tcoa"),
    (12, "mcoat"),
];

/// Items that join domains draw on this many tiers below.
const CROSS_DISTANCE: u8 = 3;

/// At least as many as keep the highest tiers (four less than the lowest) from being empty.
const ITEMS_PER_TIER: std::ops::RangeInclusive<u32> = 5..=255;

/// Distractors list up to this many of a material that the task does not need.
const DISTRACTOR_MAX: u32 = 5;

/// Draws distinct ingredients from the two tiers below, and from tier 4 on from one item of the third or fourth; an item at distance d is
/// drawn with weight 1 / (d + 1).
fn draw_ingredients<'a>(
    rng: &mut Xoshiro256PlusPlus,
    rule: &TierRule,
    tiers: &'a [Vec<String>],
) -> Vec<(&'a str, u32)> {
    let tier = usize::from(rule.tier);
    let mut pool: Vec<(&str, f64)> = Vec::new();
    for distance in 1..=tier.min(2) {
        pool.extend(
            tiers[tier - distance]
                .iter()
                .map(|name| (name.as_str(), weight(distance))),
        );
    }
    if tier >= 4 {
        let distance = rng.random_range(3..=4);
        let far = &tiers[tier - distance];
        pool.push((&far[rng.random_range(0..far.len())], weight(distance)));
    }
    let number = rng.random_range(rule.ingredients.0..=rule.ingredients.1);
    let mut drawn = Vec::with_capacity(number);
    while drawn.len() < number && !pool.is_empty() {
        let sum: f64 = pool.iter().map(|&(_, weight)| weight).sum();
        let mut left = rng.random::<f64>() * sum;
        let place = pool.iter().position(|&(_, weight)| {
            left -= weight;
            left <= 0.0
        });
        let (name, _) = pool[place.unwrap_or(pool.len() - 1)];
        pool.retain(|&(other, _)| other != name);
        drawn.push((name, rng.random_range(rule.counts.0..=rule.counts.1)));
    }
    drawn
}

fn weight(distance: usize) -> f64 {
    1.0 / (distance as f64 + 1.0)
}

/// For every item the base materials of one of it if every recipe made one item at a time; saturates.
fn official_needs(world: &World) -> Vec<Vec<(ItemId, u64)>> {
    let mut needs: Vec<Vec<(ItemId, u64)>> = Vec::with_capacity(world.len());
    for item in world.items() {
        let Some(recipe) = world.recipe(item) else {
            needs.push(vec![(item, 1)]);
            continue;
        };
        let mut sum: Vec<(ItemId, u64)> = Vec::new();
        for &(ingredient, count) in &recipe.ingredients {
            for &(base, each) in &needs[ingredient.index()] {
                let more = each.saturating_mul(count.into());
                match sum.iter_mut().find(|(known, _)| *known == base) {
                    Some((_, total)) => *total = total.saturating_add(more),
                    None => sum.push((base, more)),
                }
            }
        }
        needs.push(sum);
    }
    needs
}

struct Writer<'a> {
    world: &'a Arc<World>,
    provision: Provision,
    official: Vec<Vec<(ItemId, u64)>>,
    rng: Xoshiro256PlusPlus,
}

impl Writer<'_> {
    /// Tasks on these targets, shuffled and numbered: as many of each difficulty as asked for, or all.
    fn split(
        &mut self,
        split: &'static str,
        targets: &[ItemId],
        asked: Option<[usize; 4]>,
    ) -> Result<Vec<Task>, GeneratorError> {
        let mut tasks = Vec::new();
        for difficulty in Difficulty::ALL {
            let band = targets
                .iter()
                .filter(|&&item| difficulty.tiers().contains(&self.world.tier(item)));
            let mut goals: Vec<(ItemId, u32)> = band
                .flat_map(|&item| (1..=difficulty.count_max()).map(move |count| (item, count)))
                .collect();
            goals.shuffle(&mut self.rng);
            if let Some(asked) = asked.map(|asked| asked[difficulty.index()]) {
                if asked > goals.len() {
                    return Err(GeneratorError::TooManyTasks {
                        split,
                        difficulty,
                        asked,
                        available: goals.len(),
                    });
                }
                goals.truncate(asked);
            }
            for (target, count) in goals {
                let inventory = self.inventory(target, count)?;
                tasks.push(Task {
                    id: String::new(),
                    target,
                    count,
                    inventory,
                    difficulty,
                });
            }
        }
        tasks.shuffle(&mut self.rng);
        for (number, task) in tasks.iter_mut().enumerate() {
            task.id = format!("generated.{split}.{number}");
        }
        Ok(tasks)
    }

    /// Base materials with a buffer of 0 to 50 % each (of one, sometimes another one), and 1 to 3 that nobody needs.
    fn inventory(&mut self, target: ItemId, count: u32) -> Result<Vec<(ItemId, u32)>, GeneratorError> {
        let overflow = || GeneratorError::CountOverflow {
            target: self.world.name(target).into(),
        };
        let needs: Vec<(ItemId, u32)> = match self.provision {
            Provision::Official => self.official[target.index()]
                .iter()
                .map(|&(item, each)| Ok((item, u32::try_from(each.saturating_mul(count.into()))?)))
                .collect::<Result<_, std::num::TryFromIntError>>()
                .map_err(|_| overflow())?,
            Provision::Scarce => plan::base_needs(self.world, target, count).map_err(|_: PlanError| overflow())?,
        };
        let mut inventory = Vec::with_capacity(needs.len() + 3);
        for &(item, need) in &needs {
            let buffer = self.rng.random_range(0..=(need / 2).max(1));
            inventory.push((item, need.checked_add(buffer).ok_or_else(overflow)?));
        }
        let mut idle: Vec<ItemId> = self
            .world
            .items()
            .filter(|&item| self.world.recipe(item).is_none())
            .collect();
        idle.retain(|&item| needs.iter().all(|&(needed, _)| needed != item));
        for _ in 0..self.rng.random_range(1..=3_u32) {
            if idle.is_empty() {
                break;
            }
            let item = idle.swap_remove(self.rng.random_range(0..idle.len()));
            inventory.push((item, self.rng.random_range(1..=DISTRACTOR_MAX)));
        }
        Ok(inventory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> Spec {
        Spec {
            seed,
            items_per_tier: 6,
            ..Spec::default()
        }
    }

    #[test]
    fn the_seed_decides_everything() {
        let first = generate(&small(1)).unwrap();
        assert_eq!(first, generate(&small(1)).unwrap());
        assert_ne!(first.world, generate(&small(2)).unwrap().world);
        let fewer = Spec {
            train: Some([1, 2, 3, 4]),
            ..small(1)
        };
        let fewer = generate(&fewer).unwrap();
        assert_eq!(fewer.world, first.world);
        assert_eq!(fewer.train.len(), 10);
    }

    /// Should a new version of the random number crates draw otherwise, runs would no longer repeat: it should show here.
    #[test]
    fn a_known_seed_gives_a_known_world() {
        let world = generate_world(7, 25).unwrap();
        let recipe = |name| {
            let recipe = world.recipe(world.item(name).unwrap()).unwrap();
            let part = |&(item, count): &(ItemId, u32)| format!("{count} {}", world.name(item));
            let parts: Vec<_> = recipe.ingredients.iter().map(part).collect();
            format!("{} of {}", recipe.yields, parts.join(", "))
        };
        assert_eq!(recipe("m0_i1"), "3 of 2 m4_ore");
        assert_eq!(recipe("a3_i7_13"), "1 of 1 a1_i6_11, 1 a3_i5_13");
        assert_eq!(
            recipe("x12_mcoat"),
            "1 of 1 m2_i9_12, 2 c2_i9, 2 o4_i9_14, 1 a8_i9_18, 1 t3_i9_13"
        );
    }

    #[test]
    fn no_target_is_in_both_splits_and_ids_are_in_order() {
        let Benchmark { world, train, val } = generate(&small(3)).unwrap();
        for (n, task) in val.iter().enumerate() {
            assert_eq!(task.id, format!("generated.val.{n}"));
            assert!(train.iter().all(|other| other.target != task.target));
            assert!(task.difficulty.tiers().contains(&world.tier(task.target)));
            assert!((1..=task.difficulty.count_max()).contains(&task.count));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let message = |spec: Spec| generate(&spec).unwrap_err().to_string();
        assert_eq!(
            message(Spec {
                train: Some([0, 10_000, 0, 0]),
                ..small(1)
            }),
            "10000 medium train tasks were asked for, this world has 168 distinct ones"
        );
        assert_eq!(
            message(Spec {
                items_per_tier: 4,
                ..small(1)
            }),
            "items_per_tier must lie in 5..=255, got 4"
        );
        assert_eq!(
            message(Spec {
                held_out: f64::NAN,
                ..small(1)
            }),
            "held_out must lie in 0..=1, got NaN"
        );
    }
}
