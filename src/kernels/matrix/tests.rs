// SPDX-License-Identifier: MIT OR Apache-2.0

//! Against a product in double precision.

use proptest::prelude::*;

use super::*;
use crate::kernels::noise;

fn weights(depth: usize, columns: usize, bias: Option<&[f32]>, table: &[f32]) -> Weights {
    weights_with(Ending::Plain, depth, columns, bias, table)
}

/// The second of two that are packed together, the first of which is of other numbers.
fn weights_with(ending: Ending, depth: usize, columns: usize, bias: Option<&[f32]>, table: &[f32]) -> Weights {
    let kind = |bias: Option<&[f32]>| Kind {
        depth,
        columns,
        bias: bias.map(<[f32]>::to_vec),
        ending,
    };
    let fill = |index: usize, row: usize, column: usize, room: &mut [f32]| match index {
        1 => room.copy_from_slice(&table[row * columns + column..][..room.len()]),
        _ => room.fill(1e9),
    };
    Weights::pack(vec![kind(None), kind(bias)], fill)
        .unwrap()
        .pop()
        .unwrap()
}

fn piece(weights: &Weights, piece: usize, input: &[f32], output: &Output<'_>) {
    piece_and(weights, piece, input, None, output);
}

fn piece_and(weights: &Weights, piece: usize, input: &[f32], more: Option<&[f32]>, output: &Output<'_>) {
    // SAFETY: no test does a piece twice.
    #[allow(unsafe_code)]
    unsafe {
        weights.multiply(piece, input, more, output);
    }
}

fn check(rows: usize, depth: usize, columns: usize, with_bias: bool) {
    let (input, table) = (noise(rows * depth, 1), noise(depth * columns, 2));
    let bias = with_bias.then(|| noise(columns, 3));
    let weights = weights(depth, columns, bias.as_deref(), &table);
    let mut values = vec![f32::NAN; rows * columns];
    let output = Output::new(&mut values, columns);
    // Backwards: the order does not count.
    for number in (0..weights.pieces()).rev() {
        piece(&weights, number, &input, &output);
    }
    for row in 0..rows {
        for column in 0..columns {
            let product = |k: usize| f64::from(input[row * depth + k]) * f64::from(table[k * columns + column]);
            let sum: f64 = (0..depth).map(product).sum();
            let expected = sum + bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
            let got = f64::from(values[row * columns + column]);
            // A rounding for each of the sums, which are no larger than the depth.
            let most = 1e-7 * (depth + 1) as f64;
            assert!((got - expected).abs() <= most, "{row}, {column}: {got} for {expected}");
        }
    }
}

#[test]
fn sizes_of_real_layers() {
    for (depth, columns) in [(512, 2048), (2048, 512), (512, 1536), (176, 704), (2560, 512)] {
        for rows in [1, 2, 14] {
            check(rows, depth, columns, true);
        }
    }
}

#[test]
fn several_threads_write_one_output() {
    let (rows, depth, columns) = (14, 512, 2048);
    let (input, table) = (noise(rows * depth, 4), noise(depth * columns, 5));
    let weights = weights(depth, columns, None, &table);
    let mut alone = vec![0.0; rows * columns];
    weights.multiply_alone(&input, &mut alone);
    let mut together = vec![0.0; rows * columns];
    let output = Output::new(&mut together, columns);
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= weights.pieces() {
                        break;
                    }
                    piece(&weights, number, &input, &output);
                }
            });
        }
    });
    assert_eq!(alone, together);
}

#[test]
#[should_panic(expected = "assertion")]
fn rows_of_another_width_are_refused() {
    let weights = weights(4, 4, None, &[0.0; 16]);
    piece(&weights, 0, &[0.0; 5], &Output::new(&mut [0.0; 4], 4));
}

#[test]
fn endings_and_sums_follow_the_product() {
    for (rows, columns) in [(1, 40), (3, 33), (14, 64)] {
        let depth = 8;
        let (input, table, bias) = (noise(rows * depth, 1), noise(depth * columns, 2), noise(columns, 3));
        let more = noise(rows * columns, 4);
        let run = |ending: Ending, more: Option<&[f32]>| {
            let weights = weights_with(ending, depth, columns, Some(&bias), &table);
            let mut values = vec![f32::NAN; rows * columns];
            let output = Output::new(&mut values, columns);
            (0..weights.pieces()).for_each(|number| piece_and(&weights, number, &input, more, &output));
            values
        };
        let plain = run(Ending::Plain, None);
        let silu = run(Ending::Silu, None);
        let sum = run(Ending::Plain, Some(&more));
        for (index, &x) in plain.iter().enumerate() {
            assert!((silu[index] - x / (1.0 + (-x).exp())).abs() < 5e-7);
            assert!((sum[index] - (x + more[index])).abs() < 1e-7);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_size(rows in 0_usize..40, depth in 1_usize..18, columns in 1_usize..100, with_bias: bool) {
        check(rows, 4 * depth, columns, with_bias);
    }
}
