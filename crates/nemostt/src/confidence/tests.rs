// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::{
    decode::{Ctc, Emission},
    token::Token,
};

/// `tests/data/confidence.json`, by `tools/gen_confidence_goldens.py`.
#[derive(serde::Deserialize)]
struct Goldens {
    measures: Vec<Case>,
    ctc: Vec<CtcCase>,
}

#[derive(serde::Deserialize)]
struct Case {
    seed: u32,
    classes: usize,
    measure: String,
    alpha: f32,
    confidences: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct CtcCase {
    seed: u32,
    frames: usize,
    measure: String,
    aggregation: String,
    tokens: Vec<f32>,
}

fn goldens() -> Goldens {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/confidence.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// As `table` in `tools/gen_boosting_goldens.py`.
fn table(seed: u32, values: usize) -> Vec<f32> {
    let next = |&state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(next(&seed), next);
    states.take(values).map(|state| (state >> 22) as f32 / 64.0).collect()
}

#[test]
fn measures_are_those_of_nemo() {
    let cases = goldens().measures;
    assert_eq!(cases.len(), 3 * 7 * 4);
    for case in cases {
        let measure = Measure::from_name(&case.measure).unwrap();
        let rows = table(case.seed, 8 * case.classes);
        let scales = [0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
        for ((row, scale), expected) in rows.chunks(case.classes).zip(scales).zip(case.confidences) {
            let logits: Vec<f32> = row.iter().map(|logit| logit * scale).collect();
            let found = measure.confidence(&logits, 0.0, case.alpha);
            let (measure, alpha) = (&case.measure, case.alpha);
            assert!(
                (found - expected.clamp(0.0, 1.0)).abs() < 1e-5,
                "{measure}, alpha {alpha}, scale {scale}: {found}, NeMo has {expected}"
            );
        }
    }
}

#[test]
fn frames_of_a_ctc_token_are_aggregated_as_by_nemo() {
    let cases = goldens().ctc;
    assert_eq!(cases.len(), 4 * 3);
    for case in cases {
        let aggregation = match case.aggregation.as_str() {
            "prod" => Aggregation::Product,
            name => Aggregation::from_name(name).unwrap(),
        };
        let config = ConfidenceConfig {
            measure: Measure::from_name(&case.measure).unwrap(),
            aggregation,
            ..ConfidenceConfig::default()
        };
        let (classes, mut rows) = (6, Vec::new());
        for (index, row) in table(case.seed, case.frames * 6).chunks(classes).enumerate() {
            let log_sum = row.iter().map(|logit| logit.exp()).sum::<f32>().ln();
            for _ in 0..2 + index % 2 {
                rows.extend(row.iter().map(|logit| logit - log_sum));
            }
        }
        let mut tokens: Vec<Aggregate> = Vec::new();
        let mut ctc = Ctc::new(classes - 1);
        ctc.decode(
            &rows[..120 * classes],
            120,
            0,
            None,
            &config,
            |emission| match emission {
                Emission::Token(Token { confidence, .. }) => {
                    tokens.push(Aggregate::default());
                    tokens.last_mut().unwrap().push(confidence);
                }
                Emission::Repeat { confidence, .. } => tokens.last_mut().unwrap().push(confidence),
            },
        );
        assert_eq!(tokens.len(), case.tokens.len());
        for (found, expected) in tokens.iter().zip(&case.tokens) {
            let found = found.value(aggregation);
            assert!(
                (found - expected).abs() < 1e-5,
                "{}: {found}, NeMo has {expected}",
                case.measure
            );
        }
    }
}

#[test]
fn confidence_is_between_0_and_1_for_any_scores() {
    let rows: [&[f32]; 5] = [
        &[0.0; 4],
        &[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY],
        &[f32::NAN; 4],
        &[1e30, -1e30, 0.0, 1.0],
        &[f32::INFINITY, 0.0, 0.0, 0.0],
    ];
    for &(measure, name) in Measure::NAMES {
        for alpha in [f32::MIN_POSITIVE, 0.33, 1.0, 1e6] {
            for row in rows {
                let confidence = measure.confidence(row, -1.0, alpha);
                assert!(
                    (0.0..=1.0).contains(&confidence),
                    "{name}, {alpha}, {row:?}: {confidence}"
                );
            }
        }
    }
}

#[test]
fn every_value_has_a_name() {
    for &(measure, name) in Measure::NAMES {
        assert_eq!((Measure::from_name(name), measure.name()), (Some(measure), name));
    }
    assert_eq!(Measure::from_name("entropy"), None);
    assert_eq!(Aggregation::default().name(), "geometric-mean");
    assert_eq!(Measure::names().count(), 8);
}
