// Groups that need no model: tokenizer and chat template against the reference.
#pragma once

#include <filesystem>

#include "actors/tokenizer/tokenizer.hpp"
#include "cli/check/goldens.hpp"
#include "sandbox/conformance/report.hpp"

namespace troupe::check {

// Ids with and without special tokens, decoding with and without them, in one piece and token by token.
group check_tokenizer(const tokenizer_cases& cases, const std::vector<prompt_case>& prompts,
                      const text::tokenizer_ptr& tokenizer, const progress& report);

// Rendered text, its ids, and the errors that the template raises.
group check_template(const std::vector<template_case>& cases, const std::vector<prompt_case>& prompts,
                     const text::tokenizer_ptr& tokenizer, const progress& report);

}  // namespace troupe::check
