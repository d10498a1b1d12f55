// Asking a run to stop: SIGUSR1 and SIGTERM set a flag that the step loop reads. Installed before MPI_Init, so nothing is lost at start.
#pragma once

namespace longlora {

void install_stop_signals();
bool stop_signal_came();

}  // namespace longlora
