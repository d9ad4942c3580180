// SPDX-License-Identifier: MIT OR Apache-2.0

//! Says which instruction sets the unit tests of this crate covered on this processor, and which not. It has no harness, so that its
//! output is always seen. `NEMOSTT_REQUIRE_ISA=avx512,amx` (or `avx2`, `neon`) fails where one of them could not run.

use std::process::ExitCode;

use nemostt_kernels::isa::instruction_sets;

fn main() -> ExitCode {
    let sets = instruction_sets();
    for set in sets {
        let result = if set.is_used {
            "tested"
        } else {
            "NOT TESTED on this processor"
        };
        println!("instruction set {:6}: {result} ({})", set.name, set.used_by);
    }
    let required = std::env::var("NEMOSTT_REQUIRE_ISA").unwrap_or_default();
    let mut exit = ExitCode::SUCCESS;
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match sets.iter().find(|set| set.name == name) {
            Some(set) if set.is_used => {}
            Some(_) => {
                eprintln!("NEMOSTT_REQUIRE_ISA: {name} is not used on this processor");
                exit = ExitCode::FAILURE;
            }
            None => {
                let known: Vec<&str> = sets.iter().map(|set| set.name).collect();
                eprintln!("NEMOSTT_REQUIRE_ISA: {name} is unknown, expected {}", known.join(", "));
                exit = ExitCode::FAILURE;
            }
        }
    }
    exit
}
