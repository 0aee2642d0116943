# pypy2.7-v7.3.23, for callPackage of Nixpkgs
{
  lib,
  stdenv,
  fetchurl,
  autoPatchelfHook,
}:

let
  sources = {
    "aarch64-linux" = {
      url = "https://downloads.example/pypy/pypy2.7-v7.3.23/pypy2.7-v7.3.23-aarch64.tar.gz";
      hash = "sha256-MaPKuuse9UnfGVZbYimlURr1dbPEhPdD4ACCSNZJ2o8=";
    };
    "x86_64-linux" = {
      url = "https://downloads.example/pypy/pypy2.7-v7.3.23/pypy2.7-v7.3.23-linux64.tar.gz";
      hash = "sha256-oSKbyq3qobJjPW4iXnYcq7RvuinR9cbnqmcFZUWv86Q=";
    };
  };
  inherit (stdenv.hostPlatform) system isLinux;
in
stdenv.mkDerivation {
  pname = "pypy2.7";
  version = "7.3.23";

  src = fetchurl (sources.${system} or (throw "pypy2.7: there is no archive for ${system}"));

  nativeBuildInputs = lib.optionals isLinux [ autoPatchelfHook ];
  buildInputs = lib.optionals isLinux [ stdenv.cc.cc.lib ];
  autoPatchelfIgnoreMissingDeps = [
    "libX11.so.6"
    "libXft.so.2"
    "libXss.so.1"
    "libfontconfig.so.1"
  ];

  dontConfigure = true;
  dontBuild = true;
  dontStrip = true;

  installPhase = lib.concatStringsSep "\n" [
    "runHook preInstall"
    "mkdir -p $out/bin $out/opt/pypy2.7"
    "cp -R . $out/opt/pypy2.7"
    "ln -s $out/opt/pypy2.7/bin/pypy $out/bin/"
    "runHook postInstall"
  ];

  doInstallCheck = true;
  installCheckPhase = lib.concatStringsSep "\n" [
    "runHook preInstallCheck"
    "test \"$($out/bin/pypy -c \"print('hello')\")\" = hello"
    "runHook postInstallCheck"
  ];

  meta = {
    description = "A fast Python 2.7 with a tracing JIT";
    homepage = "https://pypy.org";
    license = lib.getLicenseFromSpdxId "MIT";
    mainProgram = "pypy";
    platforms = builtins.attrNames sources;
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
  };
}
