// SPDX-License-Identifier: MIT OR Apache-2.0

//! A prefix tree over the tokens of phrases, with fail links (Aho-Corasick) and the scores of NeMo's boosting tree.
//!
//! NeMo 2.7.3, `parts/context_biasing`: `ContextGraph.build` (`context_graph_universal.py`) computes the score of each
//! token, and `GPUBoostingTreeModel.from_context_graph` (`boosting_graph_batched.py`) turns the graph into arcs with
//! weights, and back-off weights that take back the score of a phrase that is abandoned. Its defaults for RNN-T and CTC
//! are used: scores grow with depth (`depth_scaling` 2, `uniform_weights` off), and tokens that begin no phrase have score 0
//! (`unk_score`). Its score of an end-of-sentence token, the only one that is clamped, is for attention decoders.

use std::collections::HashMap;

/// How much more tokens after the first one count (`depth_scaling`).
const DEPTH_SCALING: f64 = 2.0;

/// The node at the start of all phrases.
pub(super) const ROOT: u32 = 0;

/// Nodes are numbered breadth first, and siblings by token, so that the children of a node follow each other.
#[derive(Debug, PartialEq)]
pub(crate) struct Tree {
    /// The token that leads to each node; of no meaning for the root.
    tokens: Vec<u32>,
    /// The score of that token.
    weights: Vec<f32>,
    /// The first child of each node, and after the last node the number of nodes.
    first_child: Vec<u32>,
    /// The node of the longest suffix that is the start of a phrase.
    fail: Vec<u32>,
    /// What following the fail link adds to the score.
    backoff: Vec<f32>,
}

/// A node while phrases are added.
#[derive(Debug, Default)]
struct Entry {
    /// Its children in the order of their tokens, once all are known.
    children: Vec<(u32, usize)>,
    token: u32,
    token_score: f64,
    /// Sum of the scores from the root on.
    node_score: f64,
    is_end: bool,
}

impl Tree {
    /// The tree of `phrases`, each with its tokens and the score of its first token (NeMo's `context_score`).
    pub(crate) fn new(phrases: &[(Vec<usize>, f32)]) -> Self {
        Self::flatten(&entries(phrases))
    }

    fn flatten(entries: &[Entry]) -> Self {
        let mut tree = Self {
            tokens: Vec::with_capacity(entries.len()),
            weights: Vec::with_capacity(entries.len()),
            first_child: Vec::with_capacity(entries.len() + 1),
            fail: Vec::with_capacity(entries.len()),
            backoff: Vec::with_capacity(entries.len()),
        };
        // The entry of each node, and its parent.
        let mut order = vec![(0, ROOT)];
        let mut index = 0;
        while let Some(&(entry, parent)) = order.get(index) {
            let node = index as u32;
            index += 1;
            let Entry {
                children,
                token,
                token_score,
                node_score,
                is_end,
            } = &entries[entry];
            tree.tokens.push(*token);
            tree.weights.push(*token_score as f32);
            tree.first_child.push(order.len() as u32);
            order.extend(children.iter().map(|&(_, child)| (child, node)));
            // The link leads to a node that is less deep, and the children of its parent are known.
            let fail = match parent == ROOT {
                true => ROOT,
                false => tree.step(tree.fail[parent as usize], *token),
            };
            tree.fail.push(fail);
            // The score of a complete phrase is kept.
            let backoff = match is_end {
                true => 0.0,
                false => entries[order[fail as usize].0].node_score - node_score,
            };
            tree.backoff.push(backoff as f32);
        }
        tree.first_child.push(order.len() as u32);
        tree
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The children of `node`.
    fn children(&self, node: u32) -> std::ops::Range<usize> {
        let first = |node: usize| {
            self.first_child
                .get(node)
                .map_or(self.tokens.len(), |&child| child as usize)
        };
        first(node as usize)..first(node as usize + 1)
    }

    /// The child of `node` that `token` leads to.
    fn child(&self, node: u32, token: u32) -> Option<u32> {
        let children = self.children(node);
        let found = self.tokens[children.clone()].binary_search(&token).ok()?;
        Some((children.start + found) as u32)
    }

    /// The node after `token`.
    fn step(&self, node: u32, token: u32) -> u32 {
        self.score(node, token).1
    }

    /// `node` and those that its fail links lead to, up to the root, with the back-off weights up to there.
    fn chain(&self, node: u32) -> impl Iterator<Item = (u32, f32)> + '_ {
        std::iter::successors(Some((node, 0.0)), |&(node, backoff)| {
            let index = node as usize;
            (node != ROOT).then(|| (self.fail[index], backoff + self.backoff[index]))
        })
    }

    /// The score of `token` after `node`, and the node that it leads to (`NGramGPULanguageModel._advance_pytorch`).
    pub(crate) fn score(&self, node: u32, token: u32) -> (f32, u32) {
        let mut score = 0.0;
        for (at, backoff) in self.chain(node) {
            if let Some(child) = self.child(at, token) {
                return (backoff + self.weights[child as usize], child);
            }
            score = backoff;
        }
        (score, ROOT)
    }

    /// Writes the score of each token after `node`: as [`score`](Self::score), of all at once.
    pub(crate) fn scores(&self, node: u32, scores: &mut [f32]) {
        let chain: Vec<(u32, f32)> = self.chain(node).collect();
        let rest = chain.last().map_or(0.0, |&(_, backoff)| backoff);
        scores.fill(rest);
        // The longest phrase counts.
        for &(at, backoff) in chain.iter().rev() {
            for child in self.children(at) {
                if let Some(score) = scores.get_mut(self.tokens[child] as usize) {
                    *score = backoff + self.weights[child];
                }
            }
        }
    }

    /// The token with the highest sum of logit and score after `node`; the first one of equals. `best` is the token with the
    /// highest of the `logits`, and not `excluded`, which is never returned.
    ///
    /// Only the tokens that go on with a phrase are looked at: all others have the same score.
    pub(crate) fn choose(&self, node: u32, logits: &[f32], best: usize, excluded: Option<usize>) -> usize {
        let mut choice = None;
        let mut rest = 0.0;
        for (at, backoff) in self.chain(node) {
            rest = backoff;
            for child in self.children(at) {
                let token = self.tokens[child] as usize;
                if excluded == Some(token) || self.has_arc_before(node, at, token) {
                    continue;
                }
                if let Some(logit) = logits.get(token) {
                    prefer(&mut choice, token, logit + (backoff + self.weights[child]));
                }
            }
        }
        let highest_of_rest = logits[best] + rest;
        if !self.has_arc(node, best) {
            prefer(&mut choice, best, highest_of_rest);
        } else if choice.is_none_or(|(_, sum)| sum <= highest_of_rest) {
            // It is not known which of the others is the best.
            for (token, logit) in logits.iter().enumerate() {
                if excluded != Some(token) && !self.has_arc(node, token) {
                    prefer(&mut choice, token, logit + rest);
                }
            }
        }
        choice.map_or(best, |(token, _)| token)
    }

    /// Whether `token` goes on with a phrase after `node`.
    fn has_arc(&self, node: u32, token: usize) -> bool {
        self.chain(node).any(|(at, _)| self.child(at, token as u32).is_some())
    }

    /// Whether it does so at a node of the chain of `node` before `end`.
    fn has_arc_before(&self, node: u32, end: u32, token: usize) -> bool {
        let mut before = self.chain(node).map(|(at, _)| at).take_while(|&at| at != end);
        before.any(|at| self.child(at, token as u32).is_some())
    }
}

/// Replaces the `choice` if `sum` is higher, or the same for an earlier token.
fn prefer(choice: &mut Option<(usize, f32)>, token: usize, sum: f32) {
    if choice.is_none_or(|(other, highest)| sum > highest || (sum == highest && token < other)) {
        *choice = Some((token, sum));
    }
}

/// Adds the phrases one by one, as `ContextGraph.build` does.
///
/// NeMo raises the score of a token that several phrases share to the highest weight of them, but not those of the nodes
/// beyond it, so that the result depends on the order of the phrases. With the highest weight first, nothing has to be
/// raised, and what a phrase adds is what its back-off takes back.
fn entries(phrases: &[(Vec<usize>, f32)]) -> Vec<Entry> {
    let mut order: Vec<&(Vec<usize>, f32)> = phrases.iter().collect();
    order.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mut entries = vec![Entry::default()];
    let mut known: HashMap<(usize, u32), usize> = HashMap::new();
    for (tokens, weight) in order {
        let mut node = 0;
        for (depth, &token) in tokens.iter().enumerate() {
            let token = token as u32;
            let next = entries.len();
            let child = *known.entry((node, token)).or_insert(next);
            if child == next {
                let token_score = match depth {
                    0 => f64::from(*weight),
                    _ => f64::from(*weight) * DEPTH_SCALING + ((depth + 1) as f64).ln(),
                };
                let node_score = entries[node].node_score + token_score;
                entries[node].children.push((token, child));
                entries.push(Entry {
                    token,
                    token_score,
                    node_score,
                    ..Default::default()
                });
            }
            node = child;
        }
        entries[node].is_end |= node != 0;
    }
    for entry in &mut entries {
        entry.children.sort_unstable();
    }
    entries
}

#[cfg(test)]
mod tests;
