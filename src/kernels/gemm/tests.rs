// SPDX-License-Identifier: MIT OR Apache-2.0

//! Against a product in double precision.

use proptest::prelude::*;

use super::*;
use crate::kernels::{cases, most, noise};

/// The forms that this processor has code for.
pub(super) fn forms() -> impl Iterator<Item = Form> {
    let all = [Form::Floats, Form::Integers, Form::Digits];
    all.into_iter().filter(|form| form.is_there(0))
}

/// Products of these kinds with such weights, once in each of those forms.
pub(in crate::kernels) fn in_each_form(kinds: &[(Kind, Vec<f32>)]) -> Vec<Vec<Weights>> {
    let pack = |form: Form| {
        let all = kinds.iter().map(|(kind, _)| (form, kind.clone())).collect();
        let fill = |index: usize, row: usize, column: usize, room: &mut [f32]| {
            let (kind, table) = &kinds[index];
            room.copy_from_slice(&table[row * kind.columns + column..][..room.len()]);
        };
        Weights::pack_as(all, fill).unwrap()
    };
    forms().map(pack).collect()
}

fn weights(form: Form, depth: usize, columns: usize, bias: Option<&[f32]>, table: &[f32]) -> Weights {
    weights_with(form, Ending::Plain, depth, columns, bias, table)
}

/// The second of two that are packed together, the first of which is of other numbers.
fn weights_with(
    form: Form,
    ending: Ending,
    depth: usize,
    columns: usize,
    bias: Option<&[f32]>,
    table: &[f32],
) -> Weights {
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
    Weights::pack_as(vec![(form, kind(None)), (form, kind(bias))], fill)
        .unwrap()
        .pop()
        .unwrap()
}

fn piece(weights: &Weights, piece: usize, input: &[f32], output: &Output<'_>) {
    piece_and(weights, piece, input, None, output);
}

fn piece_and(weights: &Weights, piece: usize, input: &[f32], more: Option<&[f32]>, output: &Output<'_>) {
    let mut room = Room::default();
    let input = weights.prepare(input, &mut room);
    // SAFETY: no test does a piece twice.
    #[allow(unsafe_code)]
    let columns = unsafe { output.columns(weights.columns_of(piece)) };
    weights.multiply(piece, input, more, columns);
}

fn check(rows: usize, depth: usize, columns: usize, with_bias: bool) {
    forms().for_each(|form| check_form(form, rows, depth, columns, with_bias));
}

fn check_form(form: Form, rows: usize, depth: usize, columns: usize, with_bias: bool) {
    let (input, table) = (noise(rows * depth, 1), noise(depth * columns, 2));
    let bias = with_bias.then(|| noise(columns, 3));
    let weights = weights(form, depth, columns, bias.as_deref(), &table);
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
            assert!(
                (got - expected).abs() <= most,
                "{form:?}, {row}, {column}: {got} for {expected}"
            );
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sizes of real layers take Miri minutes")]
fn sizes_of_real_layers() {
    for (depth, columns) in [(512, 2048), (2048, 512), (512, 1536), (176, 704), (2560, 512)] {
        for rows in [1, 2, 14] {
            check(rows, depth, columns, true);
        }
    }
}

#[test]
fn several_threads_write_one_output() {
    forms().for_each(several_threads);
}

fn several_threads(form: Form) {
    // Several pieces; Miri takes a microsecond for each product of two numbers, and more.
    let (rows, depth, columns) = if cfg!(miri) { (3, 8, 70) } else { (14, 512, 2048) };
    let (input, table) = (noise(rows * depth, 4), noise(depth * columns, 5));
    let weights = weights(form, depth, columns, None, &table);
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
    let weights = weights(Form::Floats, 4, 4, None, &[0.0; 16]);
    piece(&weights, 0, &[0.0; 5], &Output::new(&mut [0.0; 4], 4));
}

#[test]
fn endings_and_sums_follow_the_product() {
    forms().for_each(endings_and_sums);
}

fn endings_and_sums(form: Form) {
    for (rows, columns) in [(1, 40), (3, 33), (14, 64), (18, 20)] {
        let depth = 8;
        let (input, table, bias) = (noise(rows * depth, 1), noise(depth * columns, 2), noise(columns, 3));
        let more = noise(rows * columns, 4);
        let run = |ending: Ending, more: Option<&[f32]>| {
            let weights = weights_with(form, ending, depth, columns, Some(&bias), &table);
            let mut values = vec![f32::NAN; rows * columns];
            let output = Output::new(&mut values, columns);
            (0..weights.pieces()).for_each(|number| piece_and(&weights, number, &input, more, &output));
            values
        };
        let plain = run(Ending::Plain, None);
        let silu = run(Ending::Silu, None);
        let (relu, sum) = (run(Ending::Relu, None), run(Ending::Plain, Some(&more)));
        for (index, &x) in plain.iter().enumerate() {
            assert!((silu[index] - x / (1.0 + (-x).exp())).abs() < 5e-7);
            assert_eq!(relu[index], x.max(0.0));
            assert!((sum[index] - (x + more[index])).abs() < 1e-7);
        }
    }
}

/// How far off products of numbers of either sign are, as a part of how far off they are in float32. Sizes of the numbers lie
/// within `e^-spread` and `e^spread`.
fn errors(spread: f32) -> Vec<(Form, f64)> {
    let (rows, depth, columns) = (3, 512, 48);
    let numbers = |count: usize, seed: u32| -> Vec<f32> {
        let values = noise(count, seed).into_iter().zip(noise(count, seed + 7));
        values
            .map(|(value, size)| value * (spread * size * size * size).exp())
            .collect()
    };
    let (input, table) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
    let errors: Vec<(Form, f64)> = forms()
        .map(|form| {
            let mut values = vec![0.0; rows * columns];
            weights(form, depth, columns, None, &table).multiply_alone(&input, &mut values);
            let errors = values.iter().enumerate().map(|(index, &value)| {
                let (row, column) = (index / columns, index % columns);
                let product = |k: usize| f64::from(input[row * depth + k]) * f64::from(table[k * columns + column]);
                (f64::from(value) - (0..depth).map(product).sum::<f64>()).powi(2)
            });
            (form, errors.sum::<f64>().sqrt())
        })
        .collect();
    errors
        .iter()
        .map(|(form, error)| (*form, error / errors[0].1))
        .collect()
}

#[test]
fn integers_are_as_exact_as_floats() {
    // Even sizes, and sizes that differ by a factor of millions. Sums of digits are exact, those of integers as floats are
    // not.
    for (spread, of_integers, of_digits) in [(0.0, 1.1, 0.5), (8.0, 2.5, 4.0)] {
        let errors = errors(spread);
        for &(form, error) in &errors {
            let most = match form {
                Form::Floats => 1.0,
                Form::Integers => of_integers,
                Form::Digits => of_digits,
            };
            assert!(error <= most, "{errors:?}");
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    for form in forms() {
        let (rows, depth, columns) = (3, 68, 20);
        let mut input = noise(rows * depth, 1);
        input[depth + 66] = f32::NAN;
        let mut values = vec![0.0; rows * columns];
        weights(form, depth, columns, None, &noise(depth * columns, 2)).multiply_alone(&input, &mut values);
        for (row, values) in values.chunks(columns).enumerate() {
            assert!(
                values.iter().all(|value| value.is_nan() == (row == 1)),
                "{form:?}: {values:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn any_size(rows in 0_usize..most(40), depth in 1_usize..most(18), columns in 1_usize..most(100), with_bias: bool) {
        check(rows, 4 * depth, columns, with_bias);
    }
}
