// What the page's runner uses of mlx-swift 0.31.6, declared by hand; nothing of it does anything.
import Foundation

// https://swiftpackageindex.com/ml-explore/mlx-swift/main/documentation/mlx/hasdtype
public protocol HasDType {}

// https://swiftpackageindex.com/ml-explore/mlx-swift/main/documentation/mlx/dtype
extension Float: HasDType {}

// https://swiftpackageindex.com/ml-explore/mlx-swift/main/documentation/mlx/dtype
extension Int32: HasDType {}

// https://swiftpackageindex.com/ml-explore/mlx-swift/main/documentation/mlx/mlxarray
public final class MLXArray {
  public init(_ value: Int32) {}
  public init<T: HasDType>(_ value: [T], _ shape: (some Collection<Int>)? = [Int]?.none) {}
  public func dim(_ dim: Int) -> Int { 0 }
  public func asArray<T: HasDType>(_ type: T.Type) -> [T] { [] }
}

// https://swiftpackageindex.com/ml-explore/mlx-swift/main/documentation/mlx/importedfunction
@dynamicCallable public final class ImportedFunction {
  public init(url: URL) throws {}
  public func dynamicallyCall(
    withKeywordArguments args: KeyValuePairs<String, MLXArray>
  ) throws -> [MLXArray] { [] }
}

// https://swiftpackageindex.com/ml-explore/mlx-swift/main/documentation/mlx/importfunction(from:)
public func importFunction(from url: URL) throws -> ImportedFunction { try ImportedFunction(url: url) }
