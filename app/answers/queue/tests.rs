//! What the queue promises a client: unique ids, the order of prompts and turns, conversations that
//! neither mix nor begin half, and its bounds.

use super::*;
use crate::tokenizer::Vocabulary;

/// Answers of ten tokens, with this system text.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Ten(Option<&'static str>);

impl AnswerSettings for Ten {
    fn max_tokens(&self) -> usize {
        10
    }

    fn drops_oldest(&self) -> bool {
        false
    }

    fn system(&self) -> Option<&str> {
        self.0
    }
}

fn turn(name: &str, text: &str) -> Wanted {
    Wanted::Turn { name: name.to_string(), text: text.to_string() }
}

/// Runs a check with a queue and a tokenizer.
fn with(check: impl FnOnce(&mut PromptQueue<Ten>, PromptEncoding<'_>)) {
    let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::synthetic(600, 1)).unwrap();
    check(
        &mut PromptQueue::default(),
        PromptEncoding {
            tokenizer: &tokenizer,
            form: &Form::gemma(true),
            context: 200,
            most_context: 200,
        },
    );
}

#[test]
fn an_id_in_use_is_refused_and_an_absent_one_is_drawn() {
    with(|queue, encoding| {
        let text = || Wanted::Completion("the".to_string());
        assert_eq!(queue.take(Some(7), text(), Ten(None)), Ok(AskId(7)));
        assert_eq!(queue.take(Some(7), text(), Ten(None)), Err(QueueError::InUse(7)));
        let drawn = queue.take(None, text(), Ten(None)).unwrap();
        assert_eq!(queue.take(Some(drawn.0 + 1), text(), Ten(None)).unwrap().0, drawn.0 + 1);
        assert_eq!(
            queue.take(None, text(), Ten(None)).unwrap().0,
            drawn.0 + 2,
            "an id in use was assigned"
        );
        let first = queue.next(encoding).unwrap().unwrap();
        assert_eq!(
            (first.id, first.tokens),
            (AskId(7), encoding.tokenizer.encode_prompt("the").unwrap())
        );
        assert_eq!(
            queue.take(Some(7), text(), Ten(None)),
            Err(QueueError::InUse(7)),
            "it is at the node"
        );
        assert!(queue.next(encoding).is_none(), "one at a time");
        queue.ended(AskId(7), None);
        assert_eq!(queue.take(Some(7), text(), Ten(None)), Ok(AskId(7)));
        assert_eq!(queue.open(), 4);
        assert_eq!(
            queue.give_up().map(|(id, _)| id.0).collect::<Vec<_>>(),
            [7, drawn.0 + 2, drawn.0 + 1, drawn.0]
        );
        assert_eq!(queue.open(), 0);
    });
}

#[test]
fn a_conversation_whose_first_turn_is_refused_has_not_begun() {
    with(|queue, encoding| {
        queue.take(Some(1), turn("a", &"one two ".repeat(400)), Ten(Some("Kind"))).unwrap();
        assert!(queue.next(encoding).unwrap().is_err(), "it fits no context");
        assert!(queue.conversations.is_empty(), "it still takes a place");
        queue.take(Some(2), turn("a", "One"), Ten(None)).unwrap();
        let first = queue.next(encoding).unwrap().unwrap();
        assert_eq!(
            first.tokens,
            encoding.form.first(encoding.tokenizer, None, "One").unwrap(),
            "the refused turn's system text was kept"
        );
    });
}

#[test]
fn turns_wait_for_one_another_and_conversations_do_not_mix() {
    with(|queue, encoding| {
        for (id, name, text) in
            [(1, "a", "One"), (2, "a", "Two"), (3, "b", "One"), (4, "a", "Three")]
        {
            queue.take(Some(id), turn(name, text), Ten(Some("Kind"))).unwrap();
        }
        let first = queue.next(encoding).unwrap().unwrap();
        let answer = vec![TokenId(401), TokenId(402)];
        queue.ended(first.id, Some(answer.clone()));
        let second = queue.next(encoding).unwrap().unwrap();
        let said = [first.tokens.clone(), answer].concat();
        assert_eq!((second.id, &second.tokens[..said.len()]), (AskId(2), &said[..]));
        queue.ended(second.id, None);
        let other = queue.next(encoding).unwrap().unwrap();
        assert_eq!((other.id, &other.tokens), (AskId(3), &first.tokens));
        queue.ended(other.id, Some(vec![]));
        let third = queue.next(encoding).unwrap().unwrap();
        assert_eq!(
            (third.id, &third.tokens[..said.len()]),
            (AskId(4), &said[..]),
            "a turn that was stopped is forgotten"
        );
        assert_ne!(third.tokens, second.tokens);
        queue.ended(third.id, Some(vec![TokenId(9)]));
        for text in ["Four", "Five"] {
            queue.take(None, turn("a", text), Ten(Some("Kind"))).unwrap();
        }
        (0..3).for_each(|_| queue.forget("a"));
        queue.take(None, turn("a", "One"), Ten(Some("Kind"))).unwrap();
        assert_eq!(queue.open(), 3);
        let lengths = [0, 1].map(|_| {
            let ready = queue.next(encoding).unwrap().unwrap();
            queue.ended(ready.id, Some(vec![TokenId(9)]));
            ready.tokens.len()
        });
        assert!(
            third.tokens.len() < lengths[0] && lengths[0] < lengths[1],
            "earlier prompts are answered first"
        );
        assert_eq!(
            queue.next(encoding).unwrap().unwrap().tokens,
            first.tokens,
            "a new conversation"
        );
        queue.forget("a");
        assert_eq!(queue.give_up().count(), 0);
    });
}

#[test]
fn what_cannot_be_answered_says_why_and_the_next_is() {
    with(|queue, encoding| {
        queue.take(Some(1), turn("", &"word ".repeat(500)), Ten(None)).unwrap();
        queue.take(Some(2), Wanted::Single("Hi".to_string()), Ten(None)).unwrap();
        let (id, how, error) = queue.next(encoding).unwrap().unwrap_err();
        assert_eq!((id, how), (AskId(1), Ten(None)));
        assert!(error.to_string().contains("this turn alone"), "{error}");
        assert_eq!(queue.next(encoding).unwrap().unwrap().id, AskId(2));
    });
}

#[test]
fn prompts_conversations_and_names_are_bounded() {
    with(|queue, encoding| {
        for at in 0..MAX_CONVERSATIONS {
            queue.take(None, turn(&at.to_string(), "Hi"), Ten(None)).unwrap();
        }
        assert_eq!(
            queue.take(None, turn("one more", "Hi"), Ten(None)),
            Err(QueueError::TooManyConversations)
        );
        assert_eq!(
            queue.take(None, turn(&"x".repeat(65), "Hi"), Ten(None)),
            Err(QueueError::LongName)
        );
        while !queue.is_full() {
            queue.take(None, turn("0", "Hi"), Ten(None)).unwrap();
        }
        assert_eq!(queue.take(None, turn("0", "Hi"), Ten(None)), Err(QueueError::Full));
        let first = queue.next(encoding).unwrap().unwrap();
        assert!(queue.is_full(), "the prompt at the node counts too");
        queue.ended(first.id, Some(Vec::new()));
        queue.give_up().for_each(drop);
        queue.forget("0");
        queue.take(None, turn("one more", "Hi"), Ten(None)).unwrap();
    });
}
