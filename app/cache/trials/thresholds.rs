//! The limits that the policy must keep, and the table of docs/inside/eviction.md.

use super::traces::{all, cycle, floods, prefixes};
use super::*;

/// A board's default slab.
const BOARD: Setting = Setting { nodes: 1, slots: 565, stale: 1 };

/// Prompts per trace, for a node alone.
const PROMPTS: usize = 400;

fn per_prompt(trace: &[Ask]) -> f64 {
    trace.iter().map(|ask| ask.prompt.len()).sum::<usize>() as f64 / trace.len() as f64
}

#[test]
fn a_flood_of_prompts_that_come_once_does_not_displace_a_prefix_in_use() {
    let setting = Setting { slots: 140, ..BOARD };
    let trace = floods(1, 200, 60);
    let mut swarm = Swarm::new(setting, None);
    let computed: Vec<usize> = trace.iter().map(|ask| swarm.ask(ask)).collect();
    for after_flood in [80, 160] {
        assert!(
            computed[after_flood] <= 30 + BLOCK_TOKENS,
            "{} tokens computed after a flood",
            computed[after_flood]
        );
    }
    let lru = run(setting, Some(&Baseline::Lru), &trace);
    assert!(
        swarm.computed as f64 / 200.0 < lru.computed - 5.0,
        "LRU loses the prefix in each flood"
    );
}

#[test]
fn of_a_cycle_that_does_not_fit_more_than_half_is_found() {
    let setting = Setting { slots: 140, ..BOARD };
    for prompts in [5, 6] {
        let trace = cycle(150, prompts, 540);
        assert!(run(setting, Some(&Baseline::Lru), &trace).computed > 539.0, "LRU finds nothing");
        let own = run(setting, None, &trace).computed;
        let bar = if prompts == 5 { 270.0 } else { 360.0 };
        assert!(own < bar, "{own} of 540 tokens computed in a cycle of {prompts}");
    }
}

/// A cache that follows a single rule loses where the other is right; the shadows must notice.
#[test]
fn no_trace_is_much_worse_than_lru() {
    for (name, trace) in all(1, PROMPTS) {
        let (own, lru) =
            (run(BOARD, None, &trace).computed, run(BOARD, Some(&Baseline::Lru), &trace).computed);
        assert!(own <= 1.03 * lru, "{name}: {own:.1} tokens a prompt, LRU {lru:.1}");
    }
}

/// If every node of a swarm evicts first what its peers hold, all of them drop the most popular
/// blocks at once.
#[test]
fn twelve_nodes_compute_less_than_one_alone_however_late_they_hear_of_each_other() {
    let (alone, swarm) = (prefixes(1, 150, 4, 0.0, 130), prefixes(12, 900, 4, 0.0, 130));
    let alone = run(Setting { slots: 30, ..BOARD }, None, &alone).computed;
    for stale in [1, 12, 48] {
        let cost = run(Setting { nodes: 12, slots: 30, stale }, None, &swarm);
        assert!(
            cost.computed <= 0.8 * alone,
            "{cost:?} a prompt, alone {alone}, told every {stale} prompts"
        );
    }
}

#[test]
fn a_hot_set_that_fits_the_swarm_and_no_node_is_computed_far_less() {
    let (alone, swarm) = (prefixes(1, 150, 20, 0.7, 1_000), prefixes(12, 600, 20, 0.7, 1_000));
    let alone = run(Setting { slots: 100, ..BOARD }, None, &alone).computed;
    for stale in [1, 12] {
        let cost = run(Setting { nodes: 12, slots: 100, stale }, None, &swarm);
        assert!(cost.computed <= 0.7 * alone, "{cost:?} a prompt, alone {alone}");
    }
}

/// Prints the tables of docs/inside/eviction.md: in full when built with `POTLUCK_EVICTION` set,
/// otherwise for a few prompts.
#[test]
fn table() {
    let whole = option_env!("POTLUCK_EVICTION").is_some();
    let (prompts, each) = if whole { (600, 50) } else { (10, 1) };
    println!("\n| trace | tokens | LRU | potluck | foresight |\n|---|---|---|---|---|");
    let mut traces = all(1, prompts);
    traces.push(("cycle of 26 prompts of 540 tokens, of which 17 fit", cycle(prompts, 26, 540)));
    for (name, trace) in traces {
        let foresight = Baseline::foresight(&trace);
        let [lru, own, best] = [Some(&Baseline::Lru), None, Some(&foresight)]
            .map(|baseline| run(BOARD, baseline, &trace).computed);
        assert!(
            [lru, own, best].iter().all(|computed| (1.0..=per_prompt(&trace)).contains(computed)),
            "{name}"
        );
        println!("| {name} | {:.0} | {lru:.0} | {own:.0} | {best:.0} |", per_prompt(&trace));
    }
    println!(
        "\n| trace | nodes | slots | told | LRU | potluck | planes fetched | all slabs, foresight |\n|---|---|---|---|---|---|---|---|"
    );
    for nodes in [1, 4, 12, 32] {
        let count = each * nodes.max(8);
        for (name, slots, trace) in [
            ("4 prefixes of 130 tokens", 30, prefixes(nodes, count, 4, 0.0, 130)),
            ("20 prefixes of 1,000 tokens, Zipf 0.7", 100, prefixes(nodes, count, 20, 0.7, 1_000)),
            ("few-shot, 57 subjects, Zipf 1", 200, all(nodes, count).swap_remove(1).1),
            ("conversations, 40 system prompts, 12 open", 200, all(nodes, count).swap_remove(7).1),
        ] {
            let union: Vec<Ask> = trace
                .iter()
                .map(|ask| Ask { node: 0, prompt: ask.prompt.clone(), answer: ask.answer.clone() })
                .collect();
            let best = run(
                Setting { nodes: 1, slots: (slots * nodes).min(2_730), stale: 1 },
                Some(&Baseline::foresight(&union)),
                &union,
            );
            for stale in if nodes == 1 { vec![1] } else { vec![1, nodes] } {
                let [lru, own] = [Some(&Baseline::Lru), None]
                    .map(|baseline| run(Setting { nodes, slots, stale }, baseline, &trace));
                let (lru, own, fetched, best) =
                    (lru.computed, own.computed, own.fetched, best.computed);
                println!(
                    "| {name} | {nodes} | {slots} | {stale} | {lru:.0} | {own:.0} | {fetched:.0} | {best:.0} |"
                );
            }
        }
    }
}
