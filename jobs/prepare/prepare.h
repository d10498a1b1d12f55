// `longlora prepare`: texts and ready token ids become one token file (io/token_file.h), on any number of ranks with
// the same bytes.
//
// The inputs are cut into units by their sizes alone; units are dealt to ranks; each rank tokenizes its units into
// spool files (OUT.h5.parts/), complete when renamed, so a killed prepare goes on where it stopped. Then the places of
// all units follow from their counts, and every rank writes its slices of OUT.h5.partial, which is renamed when whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jobs/command_line/option_table.h"
#include "parallel/host_group.h"

namespace longlora {

struct PrepareOptions {
    std::string output;
    std::vector<std::string> inputs;
    std::string tokenizer;        // tokenizer.model, tokenizer.json or a folder with one
    std::int64_t vocabulary = 0;  // instead of a tokenizer: all inputs are ready ids below it
    // <s> text </s>, as Llama's and LongLoRA's training texts are: LongLoRA joins documents by </s> and begins with
    // <s>.
    bool bos = true, eos = true;
    std::string bin_type = "uint16";

    template <class V> void visit(V&& v) {
        using enum OptionClass;
        v.positional("OUT.h5", output, "the token file to write; replaced when the new one is whole");
        v.positional("INPUT", inputs,
                     "folders or files: .txt, .jsonl, .jsonl.gz, .jsonl.zst (\"text\" or ready \"tokens\"), .bin");
        v("tokenizer", tokenizer, free, "tokenizer.model, tokenizer.json or a folder with one");
        v("vocabulary", vocabulary, free, "instead of --tokenizer: the inputs are ready token ids below this number");
        v("bos", bos, free, "begin every text with the tokenizer's begin-of-text id, if it has one");
        v("eos", eos, free,
          "end every text with its end-of-text id; documents that are ready ids are taken as they are");
        v("bin-type", bin_type, free, "of the ids in .bin files: uint16 | uint32");
    }
};

/// Collective. Returns the exit code; Errors are thrown on all ranks alike.
int run_prepare(const PrepareOptions& options, const parallel::HostGroup& group);

}  // namespace longlora
