// What can be said about a checkpoint without reference outputs.
#pragma once

#include <string>
#include <vector>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "sandbox/conformance/model_runner.hpp"
#include "sandbox/conformance/report.hpp"

namespace troupe::check {

// files    the folder is complete: weights, tokenizer, chat template where there is one
// program  a module serves the architecture and emits a Program that the verifier accepts
// weights  every weight of the Program is in the checkpoint with its shape
// run      a prompt gives finite logits, and the same ones in one step and token by token
void check_alone(const std::vector<std::string>& names, const checkpoint::checkpoint_config& config,
                 const modules::registry& known, const runner_options& runner, const progress& progressed,
                 report& out);

}  // namespace troupe::check
