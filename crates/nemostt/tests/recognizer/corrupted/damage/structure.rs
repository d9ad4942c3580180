// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damage to the structure of a graph: its nodes, their operators and connections, and the operator sets.

use super::{
    super::wire::{Field, Message, Value},
    Files, Random,
    field::*,
    in_graph, in_model, odd,
};

pub(super) fn shuffle(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let places = graph.places(NODE);
        let count = random.pick(&[1, 4, places.len()]);
        for _ in 0..count {
            graph.0.swap(random.pick(&places), random.pick(&places));
        }
    });
}

pub(super) fn duplicate_name(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let kinds = [
            (NODE, NODE_OUTPUT),
            (INITIALIZER, TENSOR_NAME),
            (GRAPH_INPUT, 1),
            (GRAPH_OUTPUT, 1),
        ];
        let [from, to] = [random.pick(&kinds), random.pick(&kinds)];
        let (sources, targets) = (graph.places(from.0), graph.places(to.0));
        if sources.is_empty() || targets.is_empty() {
            return;
        }
        let Some(name) = graph.inner(random.pick(&sources)).text(from.1) else {
            return;
        };
        graph.change(random.pick(&targets), |message| {
            if let Some(&place) = message.places(to.1).first() {
                message.set(place, name.into_bytes());
            }
        });
    });
}

pub(super) fn rewire(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let nodes = graph.places(NODE);
        let Some(name) = graph.inner(random.pick(&nodes)).text(NODE_OUTPUT) else {
            return;
        };
        let name = random.pick(&[name, String::new(), "undefined".into()]);
        graph.change(random.pick(&nodes), |node| {
            let inputs = node.places(NODE_INPUT);
            match inputs.is_empty() {
                true => node.push(NODE_INPUT, Value::Bytes(name.into_bytes())),
                false => node.set(random.pick(&inputs), name.into_bytes()),
            }
        });
    });
}

pub(super) fn other_operator(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let nodes = graph.places(NODE);
        let existing = graph.inner(random.pick(&nodes)).text(NODE_OPERATOR).unwrap_or_default();
        let others = [
            "Loop",
            "If",
            "Scan",
            "LSTM",
            "Conv",
            "Resize",
            "Nothing",
            "MatMulInteger",
            "Attention",
            "STFT",
        ];
        let operator = match random.below(2) {
            0 => existing,
            _ => random.pick(&others).to_owned(),
        };
        graph.change(random.pick(&nodes), |node| match random.below(8) {
            0 => {
                node.0.retain(|field| field.number != NODE_DOMAIN);
                let domain = random.pick(&["com.microsoft", "ai.onnx.ml", "com.example", "\u{fffd}"]);
                node.push(NODE_DOMAIN, Value::Bytes(domain.into()));
            }
            _ => {
                let place = node.places(NODE_OPERATOR)[0];
                node.set(place, operator.into_bytes());
            }
        });
    });
}

pub(super) fn remove_field(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let place = match random.below(3) {
            0 => random.below(graph.0.len()),
            1 => random.pick(&graph.places(NODE)),
            _ => {
                let place = random.pick(&graph.places(NODE));
                graph.change(place, |node| {
                    let removed = random.below(node.0.len());
                    node.0.remove(removed);
                });
                return;
            }
        };
        graph.0.remove(place);
    });
}

pub(super) fn other_opsets(files: &mut Files, random: &mut Random) {
    in_model(files, random, |model, random| {
        let places = model.places(MODEL_OPSET);
        let place = random.pick(&places);
        match random.below(4) {
            0 => drop(model.0.remove(place)),
            1 => {
                let duplicate = model.0[place].clone();
                model.0.push(duplicate);
            }
            2 => model.change(place, |opset| {
                opset.0.retain(|field| field.number != OPSET_DOMAIN);
                opset.push(OPSET_DOMAIN, Value::Bytes(b"com.example".to_vec()));
            }),
            _ => model.change(place, |opset| {
                let version = odd(random, 17);
                opset.set_integers(OPSET_VERSION, &[version]);
            }),
        }
    });
}

/// Inserts a node with an attribute that holds a graph with a node with a graph and so on.
pub(super) fn nest(files: &mut Files, random: &mut Random) {
    let depth = random.pick(&[1, 8, 40, 90, 2_000]);
    let mut graph = Message(Vec::new());
    for _ in 0..depth {
        let mut attribute = Message(Vec::new());
        attribute.push(ATTRIBUTE_NAME, Value::Bytes(b"body".to_vec()));
        attribute.push(ATTRIBUTE_GRAPH, Value::Bytes(graph.encode()));
        attribute.push(ATTRIBUTE_TYPE, Value::Varint(5));
        let mut node = Message(Vec::new());
        node.push(NODE_OPERATOR, Value::Bytes(b"Loop".to_vec()));
        node.push(NODE_ATTRIBUTE, Value::Bytes(attribute.encode()));
        graph = Message(Vec::new());
        graph.push(NODE, Value::Bytes(node.encode()));
    }
    in_graph(files, random, |whole, random| {
        let node = graph.bytes(0).to_vec();
        let place = random.pick(&whole.places(NODE));
        whole.0.insert(
            place,
            Field {
                number: NODE,
                value: Value::Bytes(node),
            },
        );
    });
}
