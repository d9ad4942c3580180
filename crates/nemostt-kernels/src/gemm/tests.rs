// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compares GEMMs with float64.

use proptest::prelude::*;

use super::*;
use crate::{cases, most, noise};

/// The formats that this processor supports.
pub(super) fn weight_formats() -> impl Iterator<Item = WeightFormat> {
    let all = [WeightFormat::F32, WeightFormat::I24, WeightFormat::BytePlanes];
    all.into_iter().filter(|format| format.is_supported(0))
}

/// Packs these weights in each of those formats.
pub(crate) fn in_each_form(specs: &[(GemmSpec, Vec<f32>)]) -> Vec<Vec<PackedWeights>> {
    let pack = |format: WeightFormat| {
        let all = specs.iter().map(|(spec, _)| (format, spec.clone())).collect();
        let fill = |index: usize, row: usize, column: usize, dst: &mut [f32]| {
            let (spec, table) = &specs[index];
            dst.copy_from_slice(&table[row * spec.n + column..][..dst.len()]);
        };
        PackedWeights::pack_as(all, fill).unwrap()
    };
    weight_formats().map(pack).collect()
}

fn weights(format: WeightFormat, k: usize, n: usize, bias: Option<&[f32]>, table: &[f32]) -> PackedWeights {
    weights_with(format, Epilogue::Identity, k, n, bias, table)
}

/// The second of two GEMMs that are packed together, where the first one has other weights.
fn weights_with(
    format: WeightFormat,
    epilogue: Epilogue,
    k: usize,
    n: usize,
    bias: Option<&[f32]>,
    table: &[f32],
) -> PackedWeights {
    let spec = |bias: Option<&[f32]>| GemmSpec {
        k,
        n,
        bias: bias.map(<[f32]>::to_vec),
        epilogue,
    };
    let fill = |index: usize, row: usize, column: usize, dst: &mut [f32]| match index {
        1 => dst.copy_from_slice(&table[row * n + column..][..dst.len()]),
        _ => dst.fill(1e9),
    };
    PackedWeights::pack_as(vec![(format, spec(None)), (format, spec(bias))], fill)
        .unwrap()
        .pop()
        .unwrap()
}

/// Panel `panel` of a product.
fn multiply_panel(weights: &PackedWeights, panel: usize, lhs: &[f32], residual: Option<&[f32]>, output: &Output<'_>) {
    let mut scratch = Scratch::default();
    let lhs = weights.pack_lhs(lhs, &mut scratch);
    let columns = panel * weights.panel_width()..weights.n().min((panel + 1) * weights.panel_width());
    // SAFETY: no panel is computed twice.
    #[allow(unsafe_code)]
    let part = unsafe { output.columns(columns) };
    weights.multiply_panels(panel..panel + 1, lhs, residual, Target::RowMajor(part));
}

fn check(rows: usize, k: usize, n: usize, with_bias: bool) {
    weight_formats().for_each(|format| check_format(format, rows, k, n, with_bias));
}

fn check_format(format: WeightFormat, rows: usize, k: usize, n: usize, with_bias: bool) {
    let (lhs, table) = (noise(rows * k, 1), noise(k * n, 2));
    let bias = with_bias.then(|| noise(n, 3));
    let weights = weights(format, k, n, bias.as_deref(), &table);
    let mut values = vec![f32::NAN; rows * n];
    let output = Output::new(&mut values, n);
    // In reverse, because the order must not matter.
    for panel in (0..weights.panel_count()).rev() {
        multiply_panel(&weights, panel, &lhs, None, &output);
    }
    for row in 0..rows {
        for column in 0..n {
            let product = |i: usize| f64::from(lhs[row * k + i]) * f64::from(table[i * n + column]);
            let sum: f64 = (0..k).map(product).sum();
            let expected = sum + bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
            let got = f64::from(values[row * n + column]);
            // One rounding error per addition, relative to partial sums of at most `k`.
            let tolerance = 1e-7 * (k + 1) as f64;
            assert!(
                (got - expected).abs() <= tolerance,
                "{format:?}, {row}, {column}: {got} for {expected}"
            );
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sizes of real layers take Miri minutes")]
fn sizes_of_real_layers() {
    for (k, n) in [(512, 2048), (2048, 512), (512, 1536), (176, 704), (2560, 512)] {
        for rows in [1, 2, 14] {
            check(rows, k, n, true);
        }
    }
}

/// In each format, for numbers of rows that share unpacked weights, and depths that are no multiple of what is unpacked at
/// once.
#[test]
#[cfg_attr(miri, ignore = "so many rows take Miri minutes")]
fn rows_do_not_depend_on_each_other() {
    let n = 70;
    for (format, k) in weight_formats().flat_map(|format| [20, 96, 100, 512].map(|k| (format, k))) {
        let (table, bias) = (noise(k * n, 2), noise(n, 3));
        let weights = weights(format, k, n, Some(&bias), &table);
        let lhs = noise(70 * k, 1);
        let alone = lhs.chunks(k).flat_map(|row| {
            let mut output = vec![f32::NAN; n];
            weights.multiply(row, None, &mut output);
            output
        });
        let alone: Vec<u32> = alone.map(f32::to_bits).collect();
        for rows in [2, 14, 15, 28, 29, 43, 57, 70] {
            let mut output = vec![f32::NAN; rows * n];
            weights.multiply(&lhs[..rows * k], None, &mut output);
            let output: Vec<u32> = output.into_iter().map(f32::to_bits).collect();
            assert!(output == alone[..rows * n], "{format:?}, {rows} rows of {k}");
        }
    }
}

#[test]
fn several_threads_write_one_output() {
    weight_formats().for_each(shared_output);
}

fn shared_output(format: WeightFormat) {
    // Several panels; Miri takes more than a microsecond per multiplication.
    let (rows, k, n) = if cfg!(miri) { (3, 8, 70) } else { (14, 512, 2048) };
    let (lhs, table) = (noise(rows * k, 4), noise(k * n, 5));
    let weights = weights(format, k, n, None, &table);
    let mut alone = vec![0.0; rows * n];
    weights.multiply(&lhs, None, &mut alone);
    let mut together = vec![0.0; rows * n];
    let output = Output::new(&mut together, n);
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let panel = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if panel >= weights.panel_count() {
                        break;
                    }
                    multiply_panel(&weights, panel, &lhs, None, &output);
                }
            });
        }
    });
    assert_eq!(alone, together);
}

#[test]
fn multiply_rejects_rows_of_another_width() {
    for format in weight_formats() {
        let weights = weights(format, 8, 8, None, &[1.0; 64]);
        let run = |lhs: &[f32], output: &mut [f32], columns: usize| {
            let output = Output::new(output, columns);
            let run = || multiply_panel(&weights, 0, lhs, None, &output);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok()
        };
        let mut output = [0.0; 16];
        assert!(run(&[1.0; 16], &mut output, 8), "{format:?}");
        assert!(output.iter().all(|value| *value != 0.0), "{format:?}");
        // A row is too short or too long; rows are missing; the output has other columns.
        for (values, outputs, columns) in [(15, 16, 8), (17, 16, 8), (8, 16, 8), (16, 16, 4), (16, 8, 8)] {
            let mut output = [0.5; 16];
            let is_run = run(&vec![1.0; values], &mut output[..outputs], columns);
            assert!(!is_run, "{format:?}: {values} values, {outputs} outputs of {columns}");
            assert_eq!(output, [0.5; 16], "{format:?}");
        }
    }
}

#[test]
fn epilogue_and_residual_are_applied() {
    weight_formats().for_each(epilogue_and_residual);
}

fn epilogue_and_residual(format: WeightFormat) {
    for (rows, n) in [(1, 40), (3, 33), (14, 64), (18, 20)] {
        let k = 8;
        let (lhs, table, bias) = (noise(rows * k, 1), noise(k * n, 2), noise(n, 3));
        let residual = noise(rows * n, 4);
        let run = |epilogue: Epilogue, residual: Option<&[f32]>| {
            let weights = weights_with(format, epilogue, k, n, Some(&bias), &table);
            let mut values = vec![f32::NAN; rows * n];
            weights.multiply(&lhs, residual, &mut values);
            values
        };
        let plain = run(Epilogue::Identity, None);
        let silu = run(Epilogue::Silu, None);
        let (relu, sum) = (run(Epilogue::Relu, None), run(Epilogue::Identity, Some(&residual)));
        for (index, &x) in plain.iter().enumerate() {
            assert!((silu[index] - x / (1.0 + (-x).exp())).abs() < 5e-7);
            assert_eq!(relu[index], x.max(0.0));
            assert!((sum[index] - (x + residual[index])).abs() < 1e-7);
        }
    }
}

/// The error of each format relative to that of float32, for values of either sign with magnitudes from `e^-spread` to
/// `e^spread`.
fn errors(spread: f32) -> Vec<(WeightFormat, f64)> {
    let (rows, k, n) = (3, 512, 48);
    let numbers = |count: usize, seed: u32| -> Vec<f32> {
        let values = noise(count, seed).into_iter().zip(noise(count, seed + 7));
        values
            .map(|(value, size)| value * (spread * size * size * size).exp())
            .collect()
    };
    let (lhs, table) = (numbers(rows * k, 1), numbers(k * n, 2));
    let errors: Vec<(WeightFormat, f64)> = weight_formats()
        .map(|format| {
            let mut values = vec![0.0; rows * n];
            weights(format, k, n, None, &table).multiply(&lhs, None, &mut values);
            let errors = values.iter().enumerate().map(|(index, &value)| {
                let (row, column) = (index / n, index % n);
                let product = |i: usize| f64::from(lhs[row * k + i]) * f64::from(table[i * n + column]);
                (f64::from(value) - (0..k).map(product).sum::<f64>()).powi(2)
            });
            (format, errors.sum::<f64>().sqrt())
        })
        .collect();
    errors
        .iter()
        .map(|(format, error)| (*format, error / errors[0].1))
        .collect()
}

#[test]
fn quantized_formats_are_as_accurate_as_f32() {
    // Equal magnitudes, and magnitudes that differ by a factor of millions. Byte planes are accumulated exactly, 24-bit
    // integers as floats are not.
    for (spread, i24_limit, byte_planes_limit) in [(0.0, 1.1, 0.5), (8.0, 2.5, 4.0)] {
        let errors = errors(spread);
        for &(format, error) in &errors {
            let tolerance = match format {
                WeightFormat::F32 => 1.0,
                WeightFormat::I24 => i24_limit,
                WeightFormat::BytePlanes => byte_planes_limit,
            };
            assert!(error <= tolerance, "{errors:?}");
        }
    }
}

#[test]
fn nan_stays_in_its_row() {
    for format in weight_formats() {
        let (rows, k, n) = (3, 68, 20);
        let mut lhs = noise(rows * k, 1);
        lhs[k + 66] = f32::NAN;
        let mut values = vec![0.0; rows * n];
        weights(format, k, n, None, &noise(k * n, 2)).multiply(&lhs, None, &mut values);
        for (row, values) in values.chunks(n).enumerate() {
            assert!(
                values.iter().all(|value| value.is_nan() == (row == 1)),
                "{format:?}: {values:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn any_size(rows in 0_usize..most(40), k in 1_usize..most(18), n in 1_usize..most(100), with_bias: bool) {
        check(rows, 4 * k, n, with_bias);
    }
}
