//! The cell of a turn: the Python between its fences.

const FENCE: &str = "```";

/// The code of a turn, or none. Several blocks are one cell. What a model thinks is not part of it; a block whose end is missing is read
/// all the same: what is wrong with it, the interpreter tells.
pub(super) fn cell(text: &str) -> Option<String> {
    let mut cell: Option<String> = None;
    let mut lines = super::super::speech::spoken(text).lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim().strip_prefix(FENCE) else {
            continue;
        };
        let is_python = matches!(
            language.trim().to_ascii_lowercase().as_str(),
            "" | "python" | "py" | "python3"
        );
        let block = lines.by_ref().take_while(|line| line.trim() != FENCE);
        if is_python {
            let cell = cell.get_or_insert_default();
            block.for_each(|line| {
                cell.push_str(line);
                cell.push('\n');
            });
        } else {
            block.for_each(drop);
        }
    }
    cell.filter(|cell| !cell.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_is_what_stands_between_fences() {
        assert_eq!(
            cell("Look:\n```python\nx = 1\n  \nx\n```\ndone").as_deref(),
            Some("x = 1\n  \nx\n")
        );
        assert_eq!(cell("```\nx\n```").as_deref(), Some("x\n"));
        assert_eq!(
            cell("```py\nx").as_deref(),
            Some("x\n"),
            "cut off, or the end was forgotten"
        );
        assert_eq!(
            cell("```python\nx = 1\n```\nand\n```python\nx\n```").as_deref(),
            Some("x = 1\nx\n")
        );
        assert_eq!(cell("```json\n{}\n```\n```python\nx\n```").as_deref(), Some("x\n"));
        for nothing in ["", "x = 1", "```python\n```", "```python\n\n \n```", "```json\n{}\n```"] {
            assert_eq!(cell(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn thoughts_are_not_run() {
        let text = "<think>\n```python\nno\n```\n</think>\n```python\nyes\n```";
        assert_eq!(cell(text).as_deref(), Some("yes\n"));
        assert_eq!(cell("<think>\n```python\nno\n```"), None);
    }
}
