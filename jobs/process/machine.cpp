// The device's callbacks refer to the communicators, so a machine stays where it was made.
#include "jobs/process/machine.h"

namespace longlora {

parallel::CommunicatorOptions communicator_options_of(WatchedGroup& watched) {
    parallel::CommunicatorOptions options;
    options.while_waiting = [&watched] { watched.note_waiting(); };
    return options;
}

Machine::Machine(WatchedGroup& watched, const Resources& given, std::unique_ptr<Device> ready)
    : resources(given),
      device(std::move(ready)),
      mesh(parallel::make_mesh(*device, watched.group.handle(), given.shape, communicator_options_of(watched))) {
    device->set_progress([this, &watched] {
        mesh.progress();
        watched.note_work();
    });
    device->set_waiting([this, &watched] {
        mesh.progress();
        watched.note_waiting();
    });
}

}  // namespace longlora
