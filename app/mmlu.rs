//! MMLU's multiple-choice questions as prompts: the workload of the demo and of the published
//! system that we compare with.
//!
//! Promise: the prompt matches the customary one to the character (Hendrycks et al., "Measuring
//! Massive Multitask Language Understanding"), so that prompts of one subject share everything up
//! to their own question.

use core::fmt::Write;

use crate::limits::MAX_QUESTIONS_FILE_BYTES;

/// The columns of a questions file, as its first line names them.
const COLUMNS: [&str; 6] = ["question", "choice0", "choice1", "choice2", "choice3", "answer"];

const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// One question with its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The question's text; may span several lines.
    pub(crate) question: String,
    /// The four answers to choose from, A to D.
    pub(crate) choices: [String; 4],
    /// Index of the right choice, 0 to 3.
    pub answer: usize,
}

/// Why a questions file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MmluError {
    /// Larger than any questions file should be.
    #[error(
        "the file of questions has {0} bytes, at most {MAX_QUESTIONS_FILE_BYTES} are supported"
    )]
    TooLarge(usize),
    /// The first line does not name the columns.
    #[error(
        "this is not a file of MMLU questions: its first line must be question,choice0,choice1,choice2,choice3,answer"
    )]
    Header,
    /// A record with the wrong number of columns.
    #[error("line {line}: {found} columns instead of 6; is a quotation mark missing?")]
    Columns {
        /// Line where the record begins, from 1.
        line: u64,
        /// Number of columns found.
        found: usize,
    },
    /// An answer that names none of the choices.
    #[error("line {line}: the answer must be 0, 1, 2 or 3")]
    Answer {
        /// Line where the record begins, from 1.
        line: u64,
    },
    /// The CSV cannot be read.
    #[error("the questions cannot be read: {0}")]
    Csv(#[from] csv::Error),
}

/// Parses a questions file: CSV with the columns question, choice0 to choice3, answer (0 to 3).
///
/// # Errors
/// [`MmluError`], naming the first line that is wrong.
pub fn parse_csv(text: &str) -> Result<Vec<Question>, MmluError> {
    if text.len() > MAX_QUESTIONS_FILE_BYTES {
        return Err(MmluError::TooLarge(text.len()));
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    if reader.headers()?.iter().ne(COLUMNS) {
        return Err(MmluError::Header);
    }
    let mut questions = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != COLUMNS.len() {
            return Err(MmluError::Columns { line, found: record.len() });
        }
        let answer = match &record[5] {
            "0" => 0,
            "1" => 1,
            "2" => 2,
            "3" => 3,
            _ => return Err(MmluError::Answer { line }),
        };
        let choices = core::array::from_fn(|choice| record[1 + choice].to_owned());
        questions.push(Question { question: record[0].to_owned(), choices, answer });
    }
    Ok(questions)
}

/// The prompt that asks `question` after some examples. `subject` is named as in the file names,
/// with underscores: `us_foreign_policy`.
pub fn prompt(subject: &str, examples: &[Question], question: &Question) -> String {
    let subject = subject.replace('_', " ");
    let mut prompt =
        format!("The following are multiple choice questions (with answers) about {subject}.\n\n");
    for example in examples {
        ask(&mut prompt, example);
        // Writing to a string cannot fail.
        let _ = write!(prompt, " {}\n\n", LETTERS[example.answer]);
    }
    ask(&mut prompt, question);
    prompt
}

fn ask(prompt: &mut String, question: &Question) {
    prompt.push_str(&question.question);
    for (letter, choice) in LETTERS.iter().zip(&question.choices) {
        let _ = write!(prompt, "\n{letter}. {choice}");
    }
    prompt.push_str("\nAnswer:");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "question,choice0,choice1,choice2,choice3,answer\n";

    fn said(records: &str) -> String {
        parse_csv(&format!("{HEADER}{records}")).unwrap_err().to_string()
    }

    #[test]
    fn quotes_commas_and_lines_within_a_field_are_kept() {
        let text = format!(
            "{HEADER}\"Is \"\"x\"\", or\r\nnot?\",\"1, 2\",,\" b \",ü,3\r\nplain,a,b,c,d,0"
        );
        let questions = parse_csv(&text).unwrap();
        assert_eq!(questions[0].question, "Is \"x\", or\r\nnot?");
        assert_eq!(questions[0].choices, ["1, 2", "", " b ", "ü"]);
        assert_eq!((questions[0].answer, questions[1].answer, questions.len()), (3, 0, 2));
        assert_eq!(parse_csv(HEADER).unwrap(), []);
    }

    #[test]
    fn the_prompt_is_the_customary_one() {
        let questions =
            parse_csv(&format!("{HEADER}What is 1+1?,1,2,3,4,1\nWhat is 2+2?,1,2,3,4,3\n"))
                .unwrap();
        assert_eq!(
            prompt("elementary_school_mathematics", &questions[..1], &questions[1]),
            "The following are multiple choice questions (with answers) about elementary school mathematics.\n\n\
             What is 1+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n\
             What is 2+2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
        );
    }

    #[test]
    fn what_is_no_question_is_named_by_its_line() {
        assert_eq!(
            said("a,b,c,d,e,0\n\"two\nlines\",b,c,d,e,1\nx,y\n"),
            "line 5: 2 columns instead of 6; is a quotation mark missing?"
        );
        assert!(said("\"open,b,c,d,e,0\na,b,c,d,e,1\n").contains("line 2: 1 columns"));
        for answer in ["4", "-1", "", "A", " 1", "00"] {
            assert!(
                said(&format!("a,b,c,d,e,{answer}\n")).contains("line 2: the answer must be"),
                "{answer:?} was taken"
            );
        }
        assert!(parse_csv("a,b,c,d,e,0\n").unwrap_err().to_string().contains("first line must be"));
        assert!(parse_csv("").unwrap_err().to_string().contains("first line must be"));
        assert!(
            parse_csv(&"x".repeat(MAX_QUESTIONS_FILE_BYTES + 1))
                .unwrap_err()
                .to_string()
                .contains("at most")
        );
    }

    #[test]
    fn the_selection_in_the_repository_is_whole() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mmlu");
        let mut subjects = 0;
        for entry in std::fs::read_dir(data.join("test")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let subject = name.strip_suffix("_test.csv").unwrap();
            let read = |path: String| {
                parse_csv(&std::fs::read_to_string(data.join(path)).unwrap()).unwrap()
            };
            assert_eq!(read(format!("test/{name}")).len(), 40, "{subject}");
            assert_eq!(read(format!("dev/{subject}_dev.csv")).len(), 5, "{subject}");
            subjects += 1;
        }
        assert_eq!(subjects, 12, "the demo and the tests ask about 12 subjects");
    }
}
