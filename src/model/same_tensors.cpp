// Cuts the tensors where the loaded part of any rank begins or ends, assigns a reader to each piece, and compares.
#include "model/same_tensors.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "core/host.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

constexpr std::int64_t kRestElements = std::int64_t{1} << 24;  // the most of a piece that no reader loads
constexpr std::int64_t kBlockBytes = std::int64_t{1} << 20;    // between calls of progress()

/// A part of a tensor that a rank loads; ranks send lists of these as bytes.
struct LoadedPart {
    std::int64_t tensor = 0;
    parallel::Shard elements;
};

std::string pack(const std::vector<FileTensor>& tensors) {
    std::vector<LoadedPart> parts;
    for (std::size_t t = 0; t < tensors.size(); ++t)
        if (tensors[t].loaded.count > 0) parts.push_back({static_cast<std::int64_t>(t), tensors[t].loaded});
    return {reinterpret_cast<const char*>(parts.data()), parts.size() * sizeof(LoadedPart)};
}

std::vector<LoadedPart> unpack(const std::string& bytes) {
    std::vector<LoadedPart> parts(bytes.size() / sizeof(LoadedPart));
    if (!bytes.empty()) std::memcpy(parts.data(), bytes.data(), bytes.size());
    return parts;
}

/// Rank 0's tensors as JSON: name -> type and shape, file.
Json list_of(const std::vector<FileTensor>& tensors) {
    Json list = Json::object();
    for (const FileTensor& t : tensors)
        list[t.name] = {text(name_of(t.value.dtype), ' ', to_text(t.value.shape)), t.file};
    return list;
}

/// Refuses other names, types or shapes than rank 0's.
void require_list(const Json& first, const std::vector<FileTensor>& tensors, const std::string& what,
                  const std::string& first_node) {
    const std::string where = text(what, " on node ", host_name());
    const auto refuse = [&](const std::string& difference) {
        fail(text(where, " ", difference, " on node ", first_node, " (rank 0); give all ranks the same files"));
    };
    const Json mine = list_of(tensors);
    for (const auto& [name, entry] : first.items()) {
        if (!mine.contains(name)) refuse(text("lacks the tensor '", name, "', which it has"));
        if (mine[name][0] != entry[0])
            refuse(text("has '", name, "' as ", mine[name][0].get<std::string>(), ", which is ",
                        entry[0].get<std::string>()));
    }
    for (const auto& [name, entry] : mine.items())
        if (!first.contains(name)) refuse(text("has a tensor '", name, "', which it does not have"));
}

/// Which files a rank has open, and on which node. Equal texts: the same files.
std::string place_of(const parallel::HostGroup& group, const std::vector<FileTensor>& tensors) {
    std::map<std::string, std::string> files;
    for (const FileTensor& t : tensors)
        if (!files.count(t.file)) files[t.file] = file_identity(t.file);
    std::string place = text(group.node(), '\n');
    for (const auto& [path, identity] : files) place += identity + "\n";
    return sha256_of(place);
}

/// The numbers of the ranks that read for rank 0, rank 0 first.
std::vector<int> readers_of(const std::vector<std::string>& places) {
    std::vector<int> readers;
    for (std::size_t r = 0; r < places.size(); ++r)
        if (places[r] == places[0]) readers.push_back(static_cast<int>(r));
    return readers;
}

bool contains(const parallel::Shard& whole, const parallel::Shard& part) {
    return part.begin >= whole.begin && part.end() <= whole.end();
}

/// By tensor: where the part of any rank begins or ends, in rising order, from 0 to the number of elements.
std::vector<std::vector<std::int64_t>> cuts_of(const std::vector<FileTensor>& tensors,
                                               const std::vector<std::vector<LoadedPart>>& loads) {
    std::vector<std::vector<std::int64_t>> cuts(tensors.size());
    for (std::size_t t = 0; t < tensors.size(); ++t) cuts[t] = {0, tensors[t].value.count()};
    for (const auto& parts : loads)
        for (const LoadedPart& part : parts)
            for (const std::int64_t cut : {part.elements.begin, part.elements.end()}) {
                auto& of_tensor = cuts[static_cast<std::size_t>(part.tensor)];
                const auto place = std::lower_bound(of_tensor.begin(), of_tensor.end(), cut);
                if (place == of_tensor.end() || *place != cut) of_tensor.insert(place, cut);
            }
    return cuts;
}

/// Assigns the pieces without a reader to the readers that have read least so far.
void share_rest(SharedReading& reading, const std::vector<int>& readers, const std::vector<std::int64_t>& loaded_bytes,
                const std::vector<std::size_t>& rest) {
    std::vector<std::pair<std::int64_t, int>> bytes_of;
    for (const int reader : readers) bytes_of.push_back({loaded_bytes[static_cast<std::size_t>(reader)], reader});
    for (const std::size_t i : rest) {
        TensorPiece& piece = reading.pieces[i];
        const auto least = std::min_element(bytes_of.begin(), bytes_of.end());
        piece.reader = least->second;
        least->first +=
            piece.elements.count * size_of(reading.tensors[static_cast<std::size_t>(piece.tensor)].value.dtype);
    }
}

void add_pieces(SharedReading& reading, const std::vector<std::vector<LoadedPart>>& loads,
                const std::vector<int>& readers) {
    const auto cuts = cuts_of(reading.tensors, loads);
    std::vector<std::vector<std::pair<parallel::Shard, int>>> read(reading.tensors.size());  // by tensor
    std::vector<std::int64_t> bytes(loads.size(), 0);
    for (const int reader : readers)
        for (const LoadedPart& part : loads[static_cast<std::size_t>(reader)]) {
            const auto t = static_cast<std::size_t>(part.tensor);
            read[t].push_back({part.elements, reader});
            bytes[static_cast<std::size_t>(reader)] += part.elements.count * size_of(reading.tensors[t].value.dtype);
        }
    std::vector<std::size_t> rest;
    for (std::size_t t = 0; t < reading.tensors.size(); ++t) {
        reading.first_piece.push_back(reading.pieces.size());
        for (std::size_t c = 0; c + 1 < cuts[t].size(); ++c) {
            const parallel::Shard whole{cuts[t][c], cuts[t][c + 1] - cuts[t][c]};
            const auto reader =
                std::find_if(read[t].begin(), read[t].end(), [&](const auto& r) { return contains(r.first, whole); });
            const bool loaded = contains(reading.tensors[t].loaded, whole), known = reader != read[t].end();
            const std::int64_t step = known ? whole.count : kRestElements;
            for (std::int64_t at = 0; at < whole.count; at += step) {
                if (!known) rest.push_back(reading.pieces.size());
                reading.pieces.push_back({static_cast<std::int64_t>(t),
                                          {whole.begin + at, std::min(step, whole.count - at)},
                                          known ? reader->second : 0,
                                          loaded});
            }
        }
    }
    reading.first_piece.push_back(reading.pieces.size());
    share_rest(reading, readers, bytes, rest);
}

/// Adds `elements`, which begin at element `begin` of the tensor, to the checksum of the piece.
void add(TensorPiece& piece, std::int64_t begin, const HostTensor& elements) {
    const std::int64_t from = std::max(begin, piece.elements.begin),
                       to = std::min(begin + elements.count(), piece.elements.end()), width = size_of(elements.dtype);
    ensure(from == piece.elements.begin + piece.noted, "the elements of a piece are read in order, and once");
    piece.checksum =
        crc32c(elements.bytes + (from - begin) * width, static_cast<std::size_t>((to - from) * width), piece.checksum);
    piece.noted += to - from;
}

/// The checksums of all pieces as their readers have read them. Collective.
std::vector<std::uint32_t> checksums_of_readers(const parallel::HostGroup& group, const SharedReading& reading) {
    std::string mine;
    for (const TensorPiece& piece : reading.pieces)
        if (piece.reader == group.rank())
            mine.append(reinterpret_cast<const char*>(&piece.checksum), sizeof piece.checksum);
    const std::vector<std::string> all = group.all_gather(mine);
    std::vector<std::size_t> taken(all.size(), 0);
    std::vector<std::uint32_t> checksums;
    for (const TensorPiece& piece : reading.pieces) {
        const auto reader = static_cast<std::size_t>(piece.reader);
        std::uint32_t checksum = 0;
        std::memcpy(&checksum, all[reader].data() + taken[reader], sizeof checksum);
        taken[reader] += sizeof checksum;
        checksums.push_back(checksum);
    }
    return checksums;
}

}  // namespace

SharedReading plan_reading(const parallel::HostGroup& group, const std::string& what, std::vector<FileTensor> tensors) {
    SharedReading reading;
    reading.first_node = group.broadcast(host_name());
    const Json first = parse_json(group.broadcast(to_line(list_of(tensors))), "the list of rank 0's tensors");
    const std::string place = parallel::agreed(group, [&] {
        require_list(first, tensors, what, reading.first_node);
        return place_of(group, tensors);
    });
    for (const auto& [name, entry] : first.items()) reading.first_files.push_back(entry[1].get<std::string>());
    reading.tensors = std::move(tensors);
    std::vector<std::vector<LoadedPart>> loads;
    for (const std::string& packed : group.all_gather(pack(reading.tensors))) loads.push_back(unpack(packed));
    add_pieces(reading, loads, readers_of(group.all_gather(place)));
    for (TensorPiece& piece : reading.pieces) piece.read = piece.loaded || piece.reader == group.rank();
    return reading;
}

void note_read(SharedReading& reading, const std::string& tensor, std::int64_t begin, const HostTensor& elements) {
    const auto found = std::lower_bound(reading.tensors.begin(), reading.tensors.end(), tensor,
                                        [](const FileTensor& t, const std::string& name) { return t.name < name; });
    ensure(found != reading.tensors.end() && found->name == tensor, "a tensor of the planned reading");
    const auto t = static_cast<std::size_t>(found - reading.tensors.begin());
    for (std::size_t i = reading.first_piece[t]; i < reading.first_piece[t + 1]; ++i) {
        TensorPiece& piece = reading.pieces[i];
        if (piece.elements.begin < begin + elements.count() && piece.elements.end() > begin)
            add(piece, begin, elements);
    }
}

void read_rest(SharedReading& reading, const std::function<void()>& progress) {
    for (TensorPiece& piece : reading.pieces) {
        if (!piece.read || piece.loaded) continue;
        const HostTensor& whole = reading.tensors[static_cast<std::size_t>(piece.tensor)].value;
        const std::int64_t width = size_of(whole.dtype), step = kBlockBytes / width;
        for (std::int64_t at = piece.elements.begin; at < piece.elements.end(); at += step) {
            const std::int64_t count = std::min(step, piece.elements.end() - at);
            add(piece, at, {whole.dtype, {count}, whole.bytes + at * width});
            if (progress) progress();
        }
    }
}

TensorChecksums agree_on_checksums(const parallel::HostGroup& group, const SharedReading& reading) {
    const std::vector<std::uint32_t> expected = checksums_of_readers(group, reading);
    parallel::agree(group, [&] {
        for (std::size_t i = 0; i < reading.pieces.size(); ++i) {
            const TensorPiece& piece = reading.pieces[i];
            if (!piece.read) continue;
            ensure(piece.noted == piece.elements.count, "every piece is read before the ranks compare");
            const auto t = static_cast<std::size_t>(piece.tensor);
            require(piece.checksum == expected[i], "'", reading.tensors[t].name, "' has other values in ",
                    reading.tensors[t].file, " on node ", host_name(), " than in ", reading.first_files[t], " on node ",
                    reading.first_node, " (rank 0); give all ranks the same files");
        }
    });
    TensorChecksums checksums;
    for (const FileTensor& t : reading.tensors) checksums[t.name] = 0;
    for (std::size_t i = 0; i < reading.pieces.size(); ++i) {
        const FileTensor& t = reading.tensors[static_cast<std::size_t>(reading.pieces[i].tensor)];
        std::uint32_t& checksum = checksums[t.name];
        checksum =
            crc32c_combine(checksum, expected[i],
                           static_cast<std::uint64_t>(reading.pieces[i].elements.count * size_of(t.value.dtype)));
    }
    return checksums;
}

}  // namespace longlora
