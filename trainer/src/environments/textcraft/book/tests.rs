use super::*;
use crate::environments::textcraft::WorldBuilder;

/// log -> 4 planks; 2 planks -> 4 sticks; 3 planks + 2 sticks -> axe. A second log makes bark boards, which are planks to a raft.
fn book() -> Book {
    let mut builder = WorldBuilder::new();
    builder.base("log").unwrap();
    builder.recipe("plank", None, 4, [("log", 1)]).unwrap();
    builder.recipe("board", None, 2, [("log", 1)]).unwrap();
    builder.recipe("stick", None, 4, [("plank", 2)]).unwrap();
    builder.recipe("axe", None, 1, [("plank", 3), ("stick", 2)]).unwrap();
    builder.recipe("raft", None, 1, [("log", 2)]).unwrap();
    let mut book = Book::from(&builder.build().unwrap());
    let [plank, board, raft] = ["plank", "board", "raft"].map(|name| book.item(name).unwrap());
    book.tags.push(Tag {
        name: "planks".into(),
        items: [board, plank].into(),
    });
    let of_planks = Formula {
        yields: 2,
        needs: [(Need::AnyOf(TagId(0)), 6)].into(),
    };
    let raft = &mut book.entries[raft.index()];
    raft.formulas = raft.formulas.iter().cloned().chain([of_planks]).collect();
    book
}

struct Bench {
    book: Book,
    ledger: Ledger,
    actor: ActorId,
}

impl Bench {
    fn new(inventory: &[(&str, u32)]) -> Self {
        let book = book();
        let inventory: Vec<_> = inventory
            .iter()
            .map(|&(name, count)| (book.item(name).unwrap(), count))
            .collect();
        let mut ledger = Ledger::new(book.len(), &inventory);
        let actor = ledger.actor(None, book.item("raft").unwrap(), 1);
        Self { book, ledger, actor }
    }

    fn craft(&mut self, offers: &[(&str, i64)], target: (&str, i64)) -> Result<(), String> {
        let offers: Vec<_> = offers.iter().map(|&(item, count)| Offer { item, count }).collect();
        let before: Vec<_> = self.ledger.inventory().collect();
        let done = self.book.craft(&mut self.ledger, self.actor, &offers, target);
        if done.is_err() {
            assert!(self.ledger.inventory().eq(before), "what is refused changes nothing");
        }
        done.map_err(|error| error.to_string())
    }

    fn stock(&self, name: &str) -> u32 {
        self.ledger.stock(self.book.item(name).unwrap())
    }
}

#[test]
fn ingredients_must_be_exact_and_every_fault_gives_its_facts() {
    let mut bench = Bench::new(&[("log", 5)]);
    bench.craft(&[("log", 3)], ("plank", 12)).unwrap();
    bench.craft(&[("plank", 4)], ("stick", 8)).unwrap();
    let mut refuse = |offers: &[_], target| bench.craft(offers, target).unwrap_err();
    assert_eq!(
        refuse(&[("plank", 3)], ("axe", 1)),
        "axe was not crafted. Its recipe: ingredient stick is missing, it needs 2"
    );
    assert_eq!(
        refuse(&[("stick", 3), ("plank", 3)], ("axe", 1)),
        "axe was not crafted. Its recipe: it needs 2 of stick, not 3"
    );
    assert_eq!(
        refuse(&[("plank", 3), ("stone", 1), ("stick", 2), ("log", 1)], ("axe", 1)),
        "axe was not crafted. Its recipe: it does not need stone, log"
    );
    assert_eq!(
        refuse(&[("stick", 40), ("plank", 60)], ("axe", 20)),
        "axe was not crafted. Its recipe: the inventory holds too little: 60 of plank needed, 8 there, 40 of stick needed, 8 there"
    );
    assert_eq!(
        refuse(&[("log", 1)], ("plank", 6)),
        "plank was not crafted. Its recipe: it makes 4 at a time, which 6 is no multiple of"
    );
    assert_eq!(
        refuse(&[("log", 1)], ("plank", 0)),
        "the total must be at least 1, not 0"
    );
    assert_eq!(
        refuse(&[("log", -1)], ("plank", 4)),
        "the amount of log must be at least 1, not -1"
    );
    assert_eq!(refuse(&[("plank", 1)], ("log", 1)), "there is no recipe for log");
    assert_eq!(refuse(&[("plank", 1)], ("stone", 1)), "there is no recipe for stone");
    let huge = i64::MAX - 3;
    assert_eq!(
        refuse(&[("log", huge / 4)], ("plank", huge)),
        format!(
            "plank was not crafted. Its recipe: the inventory holds too little: {} of log needed, 2 there",
            huge / 4
        )
    );
    bench.craft(&[("stick", 4), ("plank", 6)], ("axe", 2)).unwrap();
    assert_eq!(
        [bench.stock("axe"), bench.stock("plank"), bench.stock("stick")],
        [2, 2, 4]
    );
}

#[test]
fn the_first_recipe_that_fits_is_used_and_a_kind_takes_one_of_its_items() {
    let mut bench = Bench::new(&[("log", 3), ("board", 7), ("plank", 6)]);
    bench.craft(&[("log", 2)], ("raft", 1)).unwrap();
    bench.craft(&[("board", 6)], ("raft", 2)).unwrap();
    bench.craft(&[("plank", 6)], ("raft", 2)).unwrap();
    let left = ["raft", "log", "board", "plank"].map(|name| bench.stock(name));
    assert_eq!(left, [5, 1, 1, 0]);
    assert_eq!(bench.ledger.net(bench.actor), 5);

    assert_eq!(
        bench.craft(&[("board", 3), ("plank", 3)], ("raft", 2)).unwrap_err(),
        "raft was not crafted. Recipe 1: ingredient log is missing, it needs 4\n\
         Recipe 2: it needs 6 of one item of tag:planks: board, plank"
    );
    assert_eq!(
        bench
            .craft(&[("tag:planks", 6)], ("raft", 2))
            .unwrap_err()
            .lines()
            .nth(1),
        Some("Recipe 2: it needs 6 of one item of tag:planks: board, plank"),
        "a kind is no item"
    );
    assert_eq!(
        bench.craft(&[("board", 6)], ("raft", 2)).unwrap_err().lines().nth(1),
        Some("Recipe 2: the inventory holds too little: 6 of board needed, 1 there")
    );
    assert_eq!(
        bench.craft(&[("board", 3)], ("raft", 1)).unwrap_err().lines().nth(1),
        Some("Recipe 2: it makes 2 at a time, which 1 is no multiple of")
    );
}

#[test]
fn a_world_keeps_its_ids_and_its_tiers() {
    let mut builder = WorldBuilder::new();
    builder.base("log").unwrap();
    builder.recipe("mast", Some(4), 2, [("log", 3)]).unwrap();
    let world = builder.build().unwrap();
    let book = Book::from(&world);
    assert_eq!((book.len(), book.is_empty()), (2, false));
    for item in world.items() {
        assert_eq!(book.item(world.name(item)), Some(item));
    }
    let mast = world.item("mast").unwrap();
    assert_eq!((book.depth(mast), book.formulas(mast)[0].yields), (4, 2));
}
