// `longlora prepare`: makes one token file (io/token_file.h) from texts and token ids. The bytes of the file are the
// same on any number of ranks.
//
// The inputs are cut into units (jobs/prepare/units.h) by their sizes alone, and the units are distributed to ranks.
// Each rank tokenizes its units into spool files in OUT.h5.parts/. A unit is complete when its result file has been
// renamed into place, so a killed prepare resumes from there. The counts of all units then give each unit its place in
// the output. Every rank writes some blocks of OUT.h5.TOKEN.partial and reads back what another rank wrote
// (assemble.h); then rank 0 renames it. Rank 0 holds OUT.h5.lock (jobs/process/output.h) from before the first spool
// file until then.
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
    std::string tokenizer;        // tokenizer.model, tokenizer.json or a folder with one of them
    std::int64_t vocabulary = 0;  // instead of a tokenizer: all inputs are token ids below it
    // <s> text </s>, as in the training texts of Llama and LongLoRA: LongLoRA joins documents by </s> and begins with
    // <s>. By default texts begin as with transformers; true adds bos also where transformers does not.
    std::string bos = "auto";
    bool eos = true;
    std::string bin_type = "uint16";
    std::string verify = "sample";

    template <class V> void visit(V&& v) {
        using enum OptionClass;
        v.positional("OUT.h5", output,
                     "token file to write; an existing token file is replaced when the new one is complete, any other "
                     "file never");
        v.positional("INPUT", inputs,
                     "folders (their hidden files are left out) or files: .txt, .jsonl, .jsonl.gz, .jsonl.zst (with "
                     "\"text\" or \"tokens\"), .bin (token ids)");
        v("tokenizer", tokenizer, free,
          "tokenizer of the texts: tokenizer.model, tokenizer.json or a folder; of both, it takes tokenizer.json");
        v("vocabulary", vocabulary, free, "vocabulary size of inputs that are all token ids, instead of --tokenizer");
        v("bos", bos, free,
          "begin every text with the tokenizer's begin-of-text id: auto (where the post_processor of tokenizer.json "
          "or add_bos_token asks for it; a tokenizer.model without add_bos_token does) | true (if it has one, and the "
          "text does not begin with it) | false");
        v("eos", eos, free,
          "end every text with the tokenizer's end-of-text id, if it has one and the text does not end with it; token "
          "ids in the inputs stay as they are");
        v("bin-type", bin_type, free, "type of the token ids in .bin files: uint16 | uint32");
        v("verify", verify, free, "what ranks read back that others wrote, before the file counts: sample | all");
    }
};

/// Called by all ranks together. Returns the exit code; throws the same Error on all ranks.
int run_prepare(const PrepareOptions& options, const parallel::HostGroup& group);

}  // namespace longlora
