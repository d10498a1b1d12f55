// Checks the options, opens the source, calls the format that fills OUT.TOKEN.partial, renames it to OUT, and prints
// what was written.
#include "jobs/export/export.h"

#include <cstdio>
#include <filesystem>

#include "core/clock.h"
#include "core/error.h"
#include "io/file.h"
#include "jobs/export/formats.h"
#include "jobs/export/output_folder.h"

namespace longlora {
namespace {

void check_options(const ExportOptions& o) {
    require(o.format == "hf" || o.format == "peft" || o.format == "longlora", "--format ", o.format,
            " is not known; take hf, peft or longlora");
    require(o.dtype.empty() || o.dtype == "bfloat16" || o.dtype == "float32", "--dtype ", o.dtype,
            " is not known; take bfloat16 or float32");
    require(!file_exists(o.to), o.to, " exists already; remove it or name another output folder");
}

/// The type of the exported tensors: --dtype if given; else bfloat16 for a merged model whose base model is all
/// bfloat16, and float32 for everything else.
DType dtype_of(const ExportOptions& o, const ExportSource& source) {
    if (!o.dtype.empty()) return o.dtype == "bfloat16" ? DType::bfloat16 : DType::float32;
    if (o.format != "hf" || !source.base) return DType::float32;
    for (const Parameter& p : source.list.parameters) {
        const auto tensor = source.base->find(p.name);
        if (tensor && tensor->dtype != DType::bfloat16) return DType::float32;
    }
    return DType::bfloat16;
}

std::int64_t folder_bytes(const std::string& folder) {
    std::int64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.is_regular_file()) bytes += static_cast<std::int64_t>(entry.file_size());
    return bytes;
}

}  // namespace

int run_export(const ExportOptions& options) {
    const double begin = now_seconds();
    check_options(options);
    const ExportSource source = open_export_source(options.from, options.model);
    require(options.format == "hf" || source.trainables.has_lora(), source.checkpoint->path(),
            " was trained by full fine-tuning, which no adapter can hold; export it with --format hf");
    const DType dtype = dtype_of(options, source);
    OutputFolder out(options.to);
    if (options.format == "hf") export_hf(source, out.partial(), dtype);
    else if (options.format == "peft") export_peft(source, out.partial(), dtype);
    else export_longlora(source, out.partial(), dtype);
    out.commit();
    const RopeScaling& rope = source.config.rope;
    std::printf("exported step %lld of %s\n  to       %s  (%s, %s, %s, %s)\n  context  %lld tokens",
                static_cast<long long>(source.step()), source.checkpoint->path().c_str(), options.to.c_str(),
                options.format.c_str(), std::string(name_of(dtype)).c_str(),
                bytes_text(folder_bytes(options.to)).c_str(), duration_text(now_seconds() - begin).c_str(),
                static_cast<long long>(source.context()));
    if (rope.kind != RopeKind::none)
        std::printf(", rotary scaling %s by %g", std::string(name_of(rope.kind)).c_str(), rope.factor);
    std::printf("\n");
    return 0;
}

}  // namespace longlora
