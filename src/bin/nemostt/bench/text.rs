// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers and tables as text.

use comfy_table::{CellAlignment, Table, presets};

/// About three significant digits.
pub fn digits(value: f64) -> String {
    let decimals = match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.9995 => 2,
        value if value >= 0.09995 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

pub fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or("unknown".into(), |bytes| {
        format!("{} MiB", digits(bytes as f64 / 1_048_576.0))
    })
}

/// A table with numbers aligned to the right.
pub fn table<R>(header: impl IntoIterator<Item = &'static str>, rows: impl IntoIterator<Item = R>) -> Table
where
    R: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        let texts = [0.00349, 0.123_4, 1.234, 12.34, 99.96, 1234.5].map(digits);
        assert_eq!(texts, ["0.0035", "0.123", "1.23", "12.3", "100", "1234"]);
    }
}
