// SPDX-License-Identifier: MIT OR Apache-2.0

//! For tests: a server in the process that serves the encoder of a local model, with its own state for each sequence.

use std::{collections::HashMap, path::Path, sync::Arc};

use nemostt_triton::{
    ModelInfo, Tensor as RemoteTensor, TensorSpec,
    mock::{self, Server},
};

use super::verify::expected;
use crate::{
    chunker::Window,
    error::{Error, Result},
    model::{
        EncoderState, Model, ModelIdentity, Options, ServedTensor, ServedTensors, joint_head::JointHeadState,
        load::Checked,
    },
};
use nemostt_compiler::{DROP_INPUT, LENGTHS, NEXT_LENGTHS, PROMPT_INPUT};

/// The name that it is served by.
pub const TWIN: &str = "encoder";

struct Twin {
    model: Arc<Model>,
    tensors: ServedTensors,
    streams: HashMap<i64, (EncoderState, Option<JointHeadState>)>,
}

/// Serves the encoder of the model at `path`, or of the built-in one.
///
/// # Errors
/// If the model cannot be loaded, or there is no port.
pub fn serve_twin(path: Option<&Path>, options: &Options) -> Result<Server> {
    let (checked, model) = match path {
        Some(path) => (Checked::open(path, options)?, Model::load(path, options)?),
        #[cfg(feature = "embedded-model")]
        None => (Checked::embedded(options)?, Model::embedded(options)?),
        #[cfg(not(feature = "embedded-model"))]
        None => return Err(Error::Finished),
    };
    let tensors = checked.served_tensors()?;
    let info = info(&checked.identity()?, &tensors);
    let twin = Twin {
        model: Arc::new(model),
        tensors,
        streams: HashMap::new(),
    };
    Ok(Server::start(TWIN, info, twin)?)
}

fn info(identity: &ModelIdentity, tensors: &ServedTensors) -> ModelInfo {
    let specs = |tensors: &[ServedTensor]| {
        let spec = |tensor: &ServedTensor| {
            let (data_type, shape) = expected(tensor);
            TensorSpec {
                name: tensor.name.clone(),
                data_type: data_type.name().into(),
                shape,
            }
        };
        tensors.iter().map(spec).collect()
    };
    ModelInfo {
        versions: vec!["1".into()],
        inputs: specs(&tensors.inputs),
        outputs: specs(&tensors.outputs),
        parameters: identity.parameters().clone(),
    }
}

impl mock::Model for Twin {
    fn run(
        &mut self,
        id: i64,
        is_start: bool,
        inputs: &[RemoteTensor],
    ) -> std::result::Result<Vec<RemoteTensor>, String> {
        self.step(id, is_start, inputs).map_err(|error| error.to_string())
    }

    fn end(&mut self, id: i64) {
        self.streams.remove(&id);
    }
}

impl Twin {
    fn step(&mut self, id: i64, is_start: bool, inputs: &[RemoteTensor]) -> Result<Vec<RemoteTensor>> {
        let encoder = &self.model.encoder;
        if is_start {
            self.streams.insert(id, start(&self.model)?);
        }
        let Some((state, head)) = self.streams.get_mut(&id) else {
            return Err(Error::OtherSnapshot);
        };
        let find = |name: &str| inputs.iter().find(|input| input.name == name);
        let number = |name: &str| find(name).and_then(|input| input.integers()?.next()).unwrap_or(0);
        let audio: Vec<f32> = find("audio_signal")
            .and_then(RemoteTensor::floats)
            .into_iter()
            .flatten()
            .collect();
        let [len, drop] = [LENGTHS[0], DROP_INPUT].map(|name| number(name) as usize);
        let mels = encoder.streaming.mels;
        let width = audio.len() / mels;
        let frames: Vec<f32> = (0..len)
            .flat_map(|t| (0..mels).map(move |m| (m, t)))
            .map(|(m, t)| audio[m * width + t])
            .collect();
        if number(LENGTHS[2]) != state.cache_len() {
            return Err(Error::Shape {
                what: "valid frames in the cache",
                expected: state.cache_len().to_string(),
                got: number(LENGTHS[2]).to_string(),
            });
        }
        state.set_prompt(number(PROMPT_INPUT));
        let window = Window {
            frames: &frames,
            len,
            width,
            drop_frames: drop,
            outputs: crate::chunker::encoder_frames(len) - drop,
        };
        let outputs = state.step(encoder, &window, head.as_mut().map(JointHeadState::tensors))?;
        let frames = self.tensors.outputs.iter().find(|output| output.dims.len() == 2);
        let shape = frames.map(|output| expected(output).1).unwrap_or_default();
        let shape = [&[1], &shape[1..]].concat();
        let name = frames.map_or("", |output| output.name.as_str());
        Ok(vec![
            RemoteTensor::f32(name, &shape, state.outputs().data()),
            RemoteTensor::i64(NEXT_LENGTHS[0], &[1, 1], &[outputs as i64]),
            RemoteTensor::i64(NEXT_LENGTHS[1], &[1, 1], &[state.cache_len()]),
        ])
    }
}

fn start(model: &Model) -> Result<(EncoderState, Option<JointHeadState>)> {
    let encoder = &model.encoder;
    let mut state = EncoderState::new(encoder)?;
    let mut head = encoder.head.as_ref().map(JointHeadState::new).transpose()?;
    if let Some(head) = &mut head {
        state.bind(|run| head.bind_all(run))?;
    }
    Ok((state, head))
}
