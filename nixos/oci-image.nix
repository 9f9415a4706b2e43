# A container image that contains only a static repd.
{
  lib,
  dockerTools,
  repd,
}:
dockerTools.buildLayeredImage {
  name = "repd";
  tag = repd.version;
  # Copied, so that the image needs nothing from the Nix store.
  extraCommands = "install -D ${lib.getExe repd} bin/repd";
  includeStorePaths = false;
  config = {
    Entrypoint = [ "/bin/repd" ];
    User = "65534:65534";
    ExposedPorts."${toString (import ./default-port.nix { inherit lib; })}/tcp" = { };
    StopSignal = "SIGTERM";
  };
}
